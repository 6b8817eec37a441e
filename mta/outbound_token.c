/*
 * outbound_token.c - the table of CONNECTORS 9
 *
 * A token without a row does not build: the switch has no default, and the compiler asks for each
 * (-Wswitch). The metrics come from the same list of words.
 */
#include "mta/outbound_token.h"

#include "core/check.h"

/* clang-format off */
#define ROW(...) { static const struct outbound_token_row row = { __VA_ARGS__ }; return &row; }
#define NEVER { 0, 0, 0 }

static const struct outbound_token_row *row_of(enum outbound_token token)
{
    switch (token) {
    case FAULT_NONE: ROW("", NEVER, NEVER, "", NEVER, NEVER, "")
    case FAULT_STARTTLS_NONE: ROW("starttls-none", { 4, 7, 0 }, { 5, 7, 0 },
        "starttls-not-supported", { 4, 4, 317 }, { 4, 7, 321 }, "STARTTLS is not offered")
    case FAULT_STARTTLS_REFUSED: ROW("starttls-refused", { 4, 7, 0 }, { 5, 7, 0 },
        "starttls-not-supported", NEVER, NEVER, "STARTTLS is offered, and not given")
    case FAULT_HANDSHAKE: ROW("handshake", { 4, 7, 5 }, { 5, 7, 5 },
        "validation-failure", { 4, 4, 317 }, NEVER, "the TLS handshake fails")
    case FAULT_TOO_WEAK: ROW("too-weak", { 4, 7, 5 }, { 5, 7, 5 },
        "validation-failure", NEVER, NEVER, "the TLS that it has is weaker than is demanded")
    case FAULT_CHAIN: ROW("chain", { 4, 7, 5 }, { 5, 7, 5 },
        "certificate-not-trusted", { 4, 7, 320 }, NEVER, "its certificate is not to be trusted")
    case FAULT_EXPIRED: ROW("expired", { 4, 7, 5 }, { 5, 7, 5 },
        "certificate-expired", { 4, 7, 320 }, { 4, 7, 322 }, "its certificate is out of its dates")
    case FAULT_NAME: ROW("name", { 4, 7, 5 }, { 5, 7, 5 },
        "certificate-host-mismatch", { 4, 7, 320 }, { 4, 7, 325 }, "its certificate is for other names")
    case FAULT_PIN: ROW("pin", { 4, 7, 5 }, { 5, 7, 5 },
        "validation-failure", NEVER, NEVER, "its key is not one of those listed")
    case FAULT_REVOKED: ROW("revoked", { 4, 7, 5 }, { 5, 7, 5 },
        "certificate-not-trusted", { 4, 7, 320 }, NEVER, "its certificate is revoked")
    case FAULT_REVOCATION_UNKNOWN: ROW("revocation-unknown", { 4, 7, 5 }, { 5, 7, 5 },
        "validation-failure", NEVER, NEVER, "whether its certificate is revoked cannot be found out")
    case FAULT_TLSA: ROW("tlsa", { 4, 7, 5 }, { 5, 7, 5 },
        "validation-failure", { 4, 7, 323 }, NEVER, "its certificate fits none of its TLSA records")
    case FAULT_TLSA_BAD: ROW("tlsa-bad", { 4, 7, 5 }, { 5, 7, 5 },
        "tlsa-invalid", { 4, 7, 323 }, NEVER, "its TLSA records are malformed")
    case FAULT_DNSSEC: ROW("dnssec", { 4, 4, 3 }, { 5, 4, 3 },
        "dnssec-invalid", { 4, 7, 324 }, NEVER, "DNSSEC validation of its records fails")
    case FAULT_DANE_REQUIRED: ROW("dane-required", { 4, 7, 5 }, { 5, 7, 5 },
        "dane-required", NEVER, NEVER, "it has no usable TLSA record, and one is demanded")
    case FAULT_STS_MX: ROW("sts-mx", { 4, 7, 5 }, { 5, 7, 5 },
        "validation-failure", { 4, 4, 8 }, NEVER, "the domain's MTA-STS policy does not list it")
    case FAULT_STS_CERT: ROW("sts-cert", { 4, 7, 5 }, { 5, 7, 5 },
        "certificate-not-trusted", { 5, 7, 5 }, NEVER, "its certificate fails the domain's MTA-STS policy")
    case FAULT_STS_FETCH: ROW("sts-fetch", NEVER, NEVER,
        "sts-policy-fetch-error", NEVER, NEVER, "the domain's MTA-STS policy cannot be fetched")
    case FAULT_STS_POLICY: ROW("sts-policy", NEVER, NEVER,
        "sts-policy-invalid", NEVER, NEVER, "the domain's MTA-STS policy is malformed")
    case FAULT_MEMORY: ROW("memory", { 4, 7, 0 }, { 5, 7, 0 },
        "", NEVER, NEVER, "it offers less than is remembered of it")
    case FAULT_REQUIRETLS: ROW("requiretls", NEVER, { 5, 7, 30 },
        "", NEVER, NEVER, "REQUIRETLS is demanded, and not offered")
    case FAULT_PEER_DEMANDS_TLS: ROW("peer-demands-tls", { 4, 7, 0 }, { 5, 7, 0 },
        "starttls-not-supported", { 4, 4, 317 }, NEVER, "it demands TLS, and does not offer it to us")
    case FAULT_CLIENT_CERT: ROW("client-cert", { 4, 7, 5 }, { 5, 7, 5 },
        "", NEVER, NEVER, "it refuses our client certificate, or us for want of one")
    case FAULT_CONNECT: ROW("connect", { 4, 4, 1 }, { 5, 4, 7 },
        "", { 4, 4, 316 }, NEVER, "no connection")
    case FAULT_CONFIG: ROW("config", { 4, 3, 5 }, { 5, 3, 5 },
        "", NEVER, NEVER, "our configuration has no way to it")
    case FAULT_SIZE: ROW("size", NEVER, { 5, 3, 4 },
        "", NEVER, NEVER, "the message is too large")
    case FAULT_LOOP: ROW("loop", NEVER, { 5, 4, 6 },
        "", { 5, 4, 14 }, NEVER, "the mail would come back to us")
    case OUTBOUND_TOKENS: break;
    }
    return NULL;
}

#define HOSTS(token, word)                                                                         \
    { "ringpost_delivery_host_failures_total", "token=\"" word "\"",                               \
      "Hosts that could not be given mail, by the reason", METRIC_COUNTER, 0,                      \
      offsetof(struct outbound_token_numbers, hosts) + (token) * sizeof(uint64_t) }
/* Without those that are never said of a host before it is given mail. */
const struct metric outbound_token_metrics[] = {
    HOSTS(FAULT_STARTTLS_NONE, "starttls-none"), HOSTS(FAULT_STARTTLS_REFUSED, "starttls-refused"),
    HOSTS(FAULT_HANDSHAKE, "handshake"), HOSTS(FAULT_TOO_WEAK, "too-weak"),
    HOSTS(FAULT_CHAIN, "chain"), HOSTS(FAULT_EXPIRED, "expired"), HOSTS(FAULT_NAME, "name"),
    HOSTS(FAULT_PIN, "pin"), HOSTS(FAULT_REVOKED, "revoked"),
    HOSTS(FAULT_REVOCATION_UNKNOWN, "revocation-unknown"), HOSTS(FAULT_TLSA, "tlsa"),
    HOSTS(FAULT_TLSA_BAD, "tlsa-bad"), HOSTS(FAULT_DNSSEC, "dnssec"),
    HOSTS(FAULT_DANE_REQUIRED, "dane-required"), HOSTS(FAULT_STS_MX, "sts-mx"),
    HOSTS(FAULT_STS_CERT, "sts-cert"), HOSTS(FAULT_MEMORY, "memory"),
    HOSTS(FAULT_REQUIRETLS, "requiretls"), HOSTS(FAULT_PEER_DEMANDS_TLS, "peer-demands-tls"),
    HOSTS(FAULT_CLIENT_CERT, "client-cert"), HOSTS(FAULT_CONNECT, "connect"),
    HOSTS(FAULT_LOOP, "loop"),
};
/* clang-format on */
const unsigned outbound_token_metrics_count = ARRAY_COUNT(outbound_token_metrics);

const struct outbound_token_row *outbound_token_row(enum outbound_token token)
{
    const struct outbound_token_row *row = row_of(token);
    CHECK(row != NULL);
    return row;
}

const char *outbound_token_name(enum outbound_token token)
{
    return outbound_token_row(token)->name;
}

struct smtp_enhanced outbound_token_status(enum outbound_token token, bool over,
                                           enum connector_replies replies, bool dane)
{
    const struct outbound_token_row *row = outbound_token_row(token);
    const struct smtp_enhanced plain = over || row->retry.klass == 0 ? row->expiry : row->retry;
    struct smtp_enhanced theirs = row->exchange;
    if (row->exchange_dane.klass != 0 && (dane || theirs.klass == 0))
        theirs = row->exchange_dane;
    if (replies == CONNECTOR_REPLIES_PLAIN || theirs.klass == 0 || plain.klass == 0)
        return plain;
    theirs.klass = plain.klass;
    return theirs;
}

bool outbound_reply_is_client_cert(struct smtp_enhanced status, struct slice text)
{
    enum { SECURITY = 7, NOT_THIS_CERTIFICATE = 51 };
    static const struct slice words[] = { SLICE("certificate"), SLICE("[cert-") };
    if (status.klass < 4 || status.subject != SECURITY)
        return false;
    if (status.detail == NOT_THIS_CERTIFICATE)
        return true;
    for (unsigned i = 0; i < ARRAY_COUNT(words); i++)
        for (size_t at = 0; at + words[i].size <= text.size; at++)
            if (slice_starts_nocase(slice_from(text, at), words[i]))
                return true;
    return false;
}
