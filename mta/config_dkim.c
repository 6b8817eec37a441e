/*
 * config_dkim.c - dkim "title" { }: keys that mail of our own is signed with
 *
 * Which of them sign a message is decided by the domain of its From field.
 */
#include <stdio.h>

#include "mta/config_build.h"

enum { SELECTOR_MAX = 128 };

static const char *selector(struct config_builder *builder, const struct config_section *s)
{
    const char *text = config_file_text(s, "selector", "");
    bool good = strlen(text) <= SELECTOR_MAX && *text != '.' && *text != '-';
    for (const char *at = text; good && *at != '\0'; at++) {
        const uint8_t c = ascii_lower((uint8_t)*at);
        good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               (c == '.' && at[1] != '.' && at[1] != '\0');
    }
    if (!config_file_given(s, "selector") && !builder->partial)
        config_file_error(s, "selector", 0,
                          "is missing; write the name that the public key has in DNS: NAME of "
                          "NAME._domainkey.DOMAIN");
    else if (!good || (*text == '\0' && !builder->partial))
        config_file_error(s, "selector", 0, "`%.64s` is no name that a public key can have in DNS",
                          text);
    return config_take_string(builder, text);
}

static void key_build(struct config_builder *builder, const struct config_section *s,
                      struct dkim_key *key)
{
    char why[TLS_WHY_MAX];
    const char *path = config_file_text(s, "key", "");
    config_title_check(s);
    key->domain = config_domain(builder, s, "domain", "");
    key->selector = selector(builder, s);
    if (!config_file_given(s, "domain") && !builder->partial)
        config_file_error(s, "domain", 0, "is missing; write the domain that signs");
    if (*path == '\0') {
        if (!builder->partial)
            config_file_error(s, "key", 0,
                              "is missing; write the PEM file of a key, RSA of 2048 bits or "
                              "Ed25519");
        return;
    }
    if (builder->elsewhere)
        return;
    if (dkim_key_load(path, &key->key, why) < 0)
        config_file_error(s, "key", 0, "%s", why);
    else if (why[0] != '\0')
        config_file_warn(s, "key", 0, "%s", why);
}

void config_build_dkim(struct config_builder *builder)
{
    struct config *config = builder->config;
    const unsigned count = config_sections(builder, "dkim", CONFIG_DKIM_MAX, "of them");
    struct dkim_key *list = config_take(builder, count, sizeof(*list));
    if (list == NULL)
        return;
    config->dkim = list;
    for (; config->dkim_count < count; config->dkim_count++) {
        struct config_section s = config_file_section(builder->file, "dkim", config->dkim_count);
        key_build(builder, &s, &list[config->dkim_count]);
    }
}

void config_dkim_free(struct config *config)
{
    for (unsigned i = 0; i < config->dkim_count; i++)
        EVP_PKEY_free(config->dkim[i].key);
}
