/*
 * cert_text.c - one certificate: everything an operator compares with what a partner sent
 */
#include "mta/cert_text.h"

#include <stdio.h>

#include "mta/cli.h"
#include "tls/tls_text.h"

enum { DAY_SECONDS = 86'400, BASE64_BYTES = 45, LINE_MAX_BYTES = 256 };

int64_t cert_days_left(int64_t not_after, int64_t now_seconds)
{
    int64_t left = not_after - now_seconds;
    return left >= 0 ? left / DAY_SECONDS : -((-left + DAY_SECONDS - 1) / DAY_SECONDS);
}

static json_t *names_of(const struct tls_names *names)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < names->count; i++) {
        struct slice name = tls_names_at(names, i);
        json_array_append_new(list, json_stringn((const char *)name.data, name.size));
    }
    return list;
}

static void set(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, cli_string(text));
}

json_t *cert_json(const struct tls_certificate *certificate, int64_t now_seconds)
{
    json_t *object = json_object();
    char text[TLS_DIGEST_HEX_BYTES], key[TLS_KEY_TEXT_BYTES], base64[BASE64_BYTES];
    set(object, "subject", certificate->subject);
    set(object, "issuer", certificate->issuer);
    json_object_set_new(object, "names", names_of(&certificate->names));
    tls_certificate_key_text(certificate->key, certificate->key_bits, key);
    set(object, "key", key);
    set(object, "serial", certificate->serial);
    tls_text_date(certificate->not_before, text);
    set(object, "not_before", text);
    tls_text_date(certificate->not_after, text);
    set(object, "not_after", text);
    json_object_set_new(object, "days_left",
                        json_integer(cert_days_left(certificate->not_after, now_seconds)));
    tls_text_hex(slice_of(certificate->digest, TLS_DIGEST_BYTES), text, sizeof(text));
    set(object, "fingerprint", text);
    tls_text_hex(slice_of(certificate->spki, TLS_DIGEST_BYTES), text, sizeof(text));
    set(object, "pin", text);
    EVP_EncodeBlock((uint8_t *)base64, certificate->spki, TLS_DIGEST_BYTES);
    set(object, "pin_base64", base64);
    return object;
}

json_t *cert_json_of(struct slice der, int64_t now_seconds)
{
    static struct tls_certificate certificate; /* 10 KiB, of a command that has one thread */
    const char *why = "";
    if (tls_certificate_look(der, &certificate, &why) < 0)
        return json_pack("{s:s}", "error", why);
    return cert_json(&certificate, now_seconds);
}

void cert_print(const json_t *certificate)
{
    const json_t *days = json_object_get(certificate, "days_left");
    char line[LINE_MAX_BYTES];
    cli_line("error", cli_text(certificate, "error"));
    if (days == NULL)
        return;
    json_int_t left = json_integer_value(days);
    cli_line("subject", cli_text(certificate, "subject"));
    cli_line_list("names", json_object_get(certificate, "names"));
    cli_line("issuer", cli_text(certificate, "issuer"));
    cli_line("key", cli_text(certificate, "key"));
    snprintf(line, sizeof(line), "%s to %s, %lld days %s", cli_text(certificate, "not_before"),
             cli_text(certificate, "not_after"), left < 0 ? -left : left,
             left < 0 ? "over" : "left");
    cli_line("valid", line);
    cli_line("serial", cli_text(certificate, "serial"));
    cli_line("SHA-256", cli_text(certificate, "fingerprint"));
    snprintf(line, sizeof(line), "%s (base64 %s)", cli_text(certificate, "pin"),
             cli_text(certificate, "pin_base64"));
    cli_line("pin", line);
}
