/*
 * connector_validated.c - validations by connector, and their file
 */
#include "mta/connector_validated.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/config.h"
#include "mta/json_file.h"

enum { FILE_MODE = 0644, DIGEST_TEXT = 17 };

void connector_validated_path(const struct config *config, char out[static VALIDATED_PATH_MAX])
{
    snprintf(out, VALIDATED_PATH_MAX, "%s/validated.json", config->spool.directory);
}

json_t *connector_validated_read(const char *path)
{
    json_error_t error;
    json_t *all = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(all))
        return all;
    json_decref(all);
    return json_object();
}

int connector_validated_write(const char *path, const json_t *all)
{
    return json_file_write(path, all, FILE_MODE);
}

static void digest_text(uint64_t digest, char out[static DIGEST_TEXT])
{
    snprintf(out, DIGEST_TEXT, "%016llx", (unsigned long long)digest);
}

int connector_validated_set(json_t *all, const struct validation *v)
{
    char digest[DIGEST_TEXT];
    digest_text(v->digest, digest);
    json_t *why = json_string(v->why);
    json_t *one = json_pack("{s:s, s:b, s:o, s:I, s:I}", "digest", digest, "good", v->good, "why",
                            why == NULL ? json_string("") : why, "at", (json_int_t)v->at,
                            "generation", (json_int_t)v->generation);
    return one == NULL || json_object_set_new(all, v->name, one) < 0 ? -ENOMEM : 0;
}

enum validated connector_validated_state(const json_t *all, const struct outbound *connector)
{
    char digest[DIGEST_TEXT];
    const json_t *one = json_object_get(all, connector->route.name);
    const char *text = json_string_value(json_object_get(one, "digest"));
    if (text == NULL)
        return VALIDATED_NEVER;
    digest_text(connector->digest, digest);
    if (strcmp(text, digest) != 0)
        return VALIDATED_CHANGED;
    return json_is_true(json_object_get(one, "good")) ? VALIDATED_GOOD : VALIDATED_FAILED;
}

int64_t connector_validated_at(const json_t *all, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(all, name), "at"));
}

const char *connector_validated_name(enum validated state)
{
    static const char *const names[] = {
        [VALIDATED_NEVER] = "never",
        [VALIDATED_FAILED] = "failed",
        [VALIDATED_CHANGED] = "changed since",
        [VALIDATED_GOOD] = "good",
    };
    CHECK((size_t)state < ARRAY_COUNT(names));
    return names[state];
}
