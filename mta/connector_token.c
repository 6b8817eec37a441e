/*
 * connector_token.c - the table of CONNECTORS 6.2
 *
 * A row is { name, reject, defer, exchange }; a class that a token does not have repeats the other
 * one. The table has the enum's length, and each row all its texts, or it does not build.
 */
#include "mta/connector_token.h"

#include "core/check.h"

struct row {
    const char *name;
    struct connector_reply reject, defer, exchange;
};

#define RESTRICTED(word)                                                                           \
    {                                                                                              \
        word, { 550, { 5, 7, 1 }, "Sender domain is restricted" },                                 \
            { 451, { 4, 7, 1 }, "Sender domain is restricted" },                                   \
        {                                                                                          \
            550, { 5, 7, 51 }, "TenantInboundAttribution"                                          \
        }                                                                                          \
    }

/* clang-format off */
static const struct row rows[] = {
    [TOKEN_NONE] = { "", { 250, { 2, 0, 0 }, "" }, { 250, { 2, 0, 0 }, "" }, { 250, { 2, 0, 0 }, "" } },
    [TOKEN_TLS_REQUIRED] = {
        "tls-required",
        { 530, { 5, 7, 0 }, "Must issue a STARTTLS command first" },
        { 451, { 4, 7, 0 }, "TLS is required for this sender" },
        { 451, { 4, 7, 3 }, "STARTTLS is required to send mail" } },
    [TOKEN_TLS_TOO_WEAK] = {
        "tls-too-weak",
        { 550, { 5, 7, 0 }, "Stronger TLS is required" },
        { 451, { 4, 7, 0 }, "Stronger TLS is required" },
        { 451, { 4, 7, 3 }, "STARTTLS is required to send mail" } },
    [TOKEN_CERT_NONE] = RESTRICTED("cert-none"),
    [TOKEN_CERT_UNTRUSTED] = RESTRICTED("cert-untrusted"),
    [TOKEN_CERT_EXPIRED] = RESTRICTED("cert-expired"),
    [TOKEN_CERT_USAGE] = RESTRICTED("cert-usage"),
    [TOKEN_CERT_NAME] = RESTRICTED("cert-name"),
    [TOKEN_CERT_PIN] = RESTRICTED("cert-pin"),
    [TOKEN_CERT_REVOKED] = {
        "cert-revoked",
        { 550, { 5, 7, 1 }, "Sender domain is restricted" },
        { 550, { 5, 7, 1 }, "Sender domain is restricted" },
        { 550, { 5, 7, 51 }, "TenantInboundAttribution" } },
    [TOKEN_REVOCATION_UNKNOWN] = {
        "revocation-unknown",
        { 451, { 4, 7, 5 }, "Certificate status not known" },
        { 451, { 4, 7, 5 }, "Certificate status not known" },
        { 451, { 4, 7, 5 }, "Certificate status not known" } },
    [TOKEN_ADDRESS_MISMATCH] = RESTRICTED("address-mismatch"),
    [TOKEN_RELAY_DENIED] = {
        "relay-denied",
        { 550, { 5, 7, 1 }, "Relaying denied" },
        { 550, { 5, 7, 1 }, "Relaying denied" },
        { 550, { 5, 7, 64 }, "TenantAttribution; Relay Access Denied" } },
    [TOKEN_OWN_SENDER] = {
        "own-sender",
        { 550, { 5, 7, 1 }, "This sender domain must be authenticated" },
        { 550, { 5, 7, 1 }, "This sender domain must be authenticated" },
        { 550, { 5, 7, 68 }, "TenantInboundAttribution; Direct Send not allowed" } },
    [TOKEN_BLOCKED] = {
        "connector-blocked",
        { 550, { 5, 7, 1 }, "Not accepted from this source" },
        { 550, { 5, 7, 1 }, "Not accepted from this source" },
        { 550, { 5, 7, 711 }, "Access denied, bad inbound connector" } },
    [TOKEN_RATE] = {
        "rate",
        { 450, { 4, 7, 28 }, "Too many messages now, try again later" },
        { 450, { 4, 7, 28 }, "Too many messages now, try again later" },
        { 451, { 4, 7, 500 }, "Server busy, try again later" } },
    [TOKEN_CONNECTIONS] = {
        "connections",
        { 421, { 4, 3, 2 }, "Too many connections now, try again later" },
        { 421, { 4, 3, 2 }, "Too many connections now, try again later" },
        { 421, { 4, 3, 2 }, "Too many connections now, try again later" } },
    [TOKEN_RECIPIENTS] = {
        "recipients",
        { 452, { 4, 5, 3 }, "Too many recipients" },
        { 452, { 4, 5, 3 }, "Too many recipients" },
        { 452, { 4, 5, 3 }, "Too many recipients" } },
    [TOKEN_SIZE] = {
        "size",
        { 552, { 5, 3, 4 }, "Message too big" },
        { 552, { 5, 3, 4 }, "Message too big" },
        { 552, { 5, 3, 4 }, "Message too big" } },
};
/* clang-format on */
static_assert(ARRAY_COUNT(rows) == TOKENS);

const char *connector_token_name(enum connector_token token)
{
    CHECK(token < TOKENS);
    CHECK(rows[token].name != NULL);
    return rows[token].name;
}

const struct connector_reply *connector_reply(enum connector_token token,
                                              enum connector_class class,
                                              enum connector_replies replies)
{
    CHECK(token > TOKEN_NONE && token < TOKENS);
    const struct row *row = &rows[token];
    if (replies == CONNECTOR_REPLIES_EXCHANGE &&
        (class == CONNECTOR_REJECT || row->exchange.code < 500))
        return &row->exchange;
    return class == CONNECTOR_DEFER ? &row->defer : &row->reject;
}
