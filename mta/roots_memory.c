/*
 * roots_memory.c - sets of digests compared, and a file of JSON
 */
#include "mta/roots_memory.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "tls/tls_roots.h"

void roots_memory_path(const struct config *config, char path[static ROOTS_MEMORY_PATH_MAX])
{
    snprintf(path, ROOTS_MEMORY_PATH_MAX, "%s/roots.json", config->spool.directory);
}

json_t *roots_memory_read(const char *path)
{
    json_t *memory = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(memory))
        return memory;
    json_decref(memory);
    return json_object();
}

int roots_memory_write(const char *path, const json_t *memory)
{
    char beside[ROOTS_MEMORY_PATH_MAX + sizeof(".new")];
    snprintf(beside, sizeof(beside), "%s.new", path);
    errno = 0;
    if (json_dump_file(memory, beside, JSON_INDENT(1) | JSON_SORT_KEYS) == 0 &&
        rename(beside, path) == 0)
        return 0;
    const int r = errno == 0 ? -EIO : -errno;
    unlink(beside);
    return r;
}

const char *roots_memory_title(const struct config_roots *bundle)
{
    return *bundle->name == '\0' ? "system" : bundle->name;
}

static json_t *set_of(const struct tls_roots *roots)
{
    json_t *set = json_object();
    for (unsigned i = 0; i < tls_roots_count(roots); i++) {
        X509 *x509 = tls_roots_at(roots, i);
        uint8_t digest[TLS_DIGEST_BYTES];
        unsigned size = sizeof(digest);
        char hex[TLS_DIGEST_HEX_BYTES], subject[TLS_SUBJECT_MAX];
        if (!X509_digest(x509, EVP_sha256(), digest, &size))
            continue;
        tls_text_hex(slice_of(digest, sizeof(digest)), hex, sizeof(hex));
        tls_certificate_name(X509_get_subject_name(x509), subject);
        json_object_set_new(set, hex, json_string(subject));
    }
    return set;
}

/* Of a what is not in b. */
static json_t *without(json_t *a, const json_t *b)
{
    json_t *left = json_object();
    const char *key;
    json_t *value;
    json_object_foreach(a, key, value)
    {
        if (json_object_get(b, key) == NULL)
            json_object_set(left, key, value);
    }
    return left;
}

bool roots_memory_differs(const json_t *remembered, const struct tls_roots *roots, json_t **added,
                          json_t **removed)
{
    json_t *before = json_object_get(remembered, "roots");
    json_t *now = set_of(roots);
    *added = json_is_object(before) ? without(now, before) : json_object();
    *removed = json_is_object(before) ? without(before, now) : json_object();
    json_decref(now);
    return json_object_size(*added) + json_object_size(*removed) > 0;
}

bool roots_memory_take(json_t *memory, const struct config_roots *bundle, int64_t now)
{
    const char *title = roots_memory_title(bundle);
    const json_t *before = json_object_get(memory, title);
    json_t *added, *removed;
    bool differs = roots_memory_differs(before, bundle->roots, &added, &removed);
    bool known = json_is_object(json_object_get(before, "roots"));
    json_t *change = differs ? json_pack("{s:I, s:O, s:O}", "at", (json_int_t)now, "added", added,
                                         "removed", removed)
                             : json_incref(json_object_get(before, "change"));
    json_t *since = known && !differs ? json_incref(json_object_get(before, "since"))
                                      : json_integer((json_int_t)now);
    json_object_set_new(memory, title,
                        json_pack("{s:s, s:s, s:o*, s:o, s:o*}", "file",
                                  tls_roots_path(bundle->roots), "sha256",
                                  tls_roots_digest(bundle->roots), "since", since, "roots",
                                  set_of(bundle->roots), "change", change));
    json_decref(added);
    json_decref(removed);
    return differs;
}
