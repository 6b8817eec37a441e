/*
 * cert_points.c - what files and the configuration tell of a new certificate
 *
 * Each point compares it with the one in use: what was not there before is no failure of the new
 * one. It is judged as of the day on which it takes over, so that one that is not valid yet can be
 * rehearsed.
 */
#include <stdio.h>

#include "mta/cert_rehearse.h"
#include "mta/cert_text.h"

static struct tls_peer peer_new, peer_old; /* 10 KiB each; one thread */

static const struct tls_certificate *old_leaf(const struct rehearsal *r)
{
    return tls_credential_leaf(r->certificate->credential);
}

static bool is_same_key(const struct rehearsal *r)
{
    return memcmp(old_leaf(r)->spki, tls_credential_leaf(r->new)->spki, TLS_DIGEST_BYTES) == 0;
}

static bool listens(const struct rehearsal *r)
{
    for (unsigned i = 0; i < r->config->listeners_count; i++)
        if (cert_listens(r->certificate, &r->config->listeners[i]))
            return true;
    return false;
}

/* The first connector that presents it; NULL: none does. */
static const char *presenter(const struct rehearsal *r)
{
    for (unsigned i = 0; i < r->config->outbound.count; i++) {
        const struct route *route = &r->config->outbound.connectors[i].route;
        if (route->tls.credential != NULL && route->tls.credential == r->certificate->credential)
            return route->name;
    }
    return NULL;
}

/* ---- the key ---- */

static void key_fits(struct rehearsal *r)
{
    struct tls_credential *pair;
    char why[TLS_WHY_MAX];
    if (*r->key == '\0' && is_same_key(r)) {
        rehearsal_say(r, REHEARSAL_OK, "key", r->certificate->key, "",
                      "the key in use is its key, too");
    } else if (*r->key == '\0') {
        rehearsal_say(r, REHEARSAL_WARN, "key", "", "name it by --key, or next-key",
                      "no key is at hand, and the one in use is not its own");
    } else if (tls_credential_load(r->path, r->key, &pair, why) < 0) {
        rehearsal_say(r, REHEARSAL_FAIL, "key", r->key, "put right what it says; mode 0600", "%s",
                      why);
    } else {
        rehearsal_say(r, REHEARSAL_OK, "key", r->key, "", "belongs to the certificate");
        tls_credential_drop(pair);
    }
}

/* Another certificate of the listener has a key of that kind. */
static bool has_beside(const struct rehearsal *r, const struct config_listener *listener,
                       enum tls_key kind)
{
    for (unsigned i = 0; i < listener->certificates_count; i++) {
        const struct config_certificate *other = listener->certificates[i];
        if (other != r->certificate && other->credential != NULL &&
            tls_credential_leaf(other->credential)->key == kind)
            return true;
    }
    return false;
}

static void key_kind(struct rehearsal *r)
{
    const struct tls_certificate *was = old_leaf(r), *is = tls_credential_leaf(r->new);
    char text_was[TLS_KEY_TEXT_BYTES], text_is[TLS_KEY_TEXT_BYTES];
    tls_certificate_key_text(was->key, was->key_bits, text_was);
    tls_certificate_key_text(is->key, is->key_bits, text_is);
    const char *weak = tls_certificate_weak_key(is->key, is->key_bits);
    if (weak != NULL)
        rehearsal_say(r, REHEARSAL_FAIL, "strength", text_is,
                      "have it issued for ECDSA P-256 or RSA of 2048 bits and more", "%s", weak);
    else if (was->key == is->key && is->key_bits < was->key_bits)
        rehearsal_say(r, REHEARSAL_WARN, "strength", text_is, "", "shorter than now, %s", text_was);
    else
        rehearsal_say(r, REHEARSAL_OK, "strength", text_is, "", "%s is in use", text_was);
    if (was->key == is->key)
        return;
    for (unsigned i = 0; i < r->config->listeners_count; i++) {
        const struct config_listener *listener = &r->config->listeners[i];
        if (!cert_listens(r->certificate, listener))
            continue;
        if (has_beside(r, listener, was->key))
            rehearsal_say(r, REHEARSAL_OK, "key kind", listener->name, "",
                          "another of its certificates still has %s", text_was);
        else if (has_beside(r, listener, is->key))
            rehearsal_say(r, REHEARSAL_FAIL, "key kind", listener->name,
                          "have it issued for the kind of key that it had",
                          "%s and %s stood side by side, and both would be %s", text_was, text_is,
                          text_is);
        else
            rehearsal_say(r, REHEARSAL_WARN, "key kind", listener->name,
                          "keep one of each kind side by side: certificates = { ecdsa, rsa }",
                          "another kind than now, %s: a peer that knows only that gets no TLS",
                          text_was);
    }
}

/* ---- dates ---- */

static void dates(struct rehearsal *r)
{
    const struct tls_certificate *was = old_leaf(r), *is = tls_credential_leaf(r->new);
    char from[TLS_TEXT_DATE_BYTES], until[TLS_TEXT_DATE_BYTES], day[TLS_TEXT_DATE_BYTES],
        end[TLS_TEXT_DATE_BYTES];
    tls_text_date(is->not_before, from);
    tls_text_date(is->not_after, until);
    tls_text_date(was->not_after, end);
    tls_text_date(r->at, day);
    const int64_t left = cert_days_left(is->not_after, r->at);
    if (is->not_after < r->at)
        rehearsal_say(r, REHEARSAL_FAIL, "dates", "", "have it issued anew", "expired on %s",
                      until);
    else if (left < CERT_EXPIRES_SOON_DAYS || is->not_after < was->not_after)
        rehearsal_say(r, REHEARSAL_WARN, "dates", "",
                      "is it the right file? The one in use is valid until then, too",
                      "valid until %s, %lld days after the change; the one in use until %s", until,
                      (long long)left, end);
    else
        rehearsal_say(r, REHEARSAL_OK, "dates", "", "", "valid from %s until %s", from, until);
    if (is->not_before > was->not_after)
        rehearsal_say(r, REHEARSAL_FAIL, "overlap", "", "have it issued for an earlier day",
                      "the one in use expires on %s, and it is not valid before %s", end, from);
    else if (r->at > was->not_after)
        rehearsal_say(r, REHEARSAL_FAIL, "overlap", "", "change it before, and say so in change-on",
                      "the one in use expires on %s, before the change on %s", end, day);
    else if (is->not_before > r->now)
        rehearsal_say(r, REHEARSAL_WARN, "overlap", "", "do not change it before",
                      "not valid before %s", from);
    else
        rehearsal_say(r, REHEARSAL_OK, "overlap", "", "", "both are valid from %s until %s", from,
                      end);
}

/* ---- names ---- */

static bool covers(const struct tls_credential *credential, struct slice name)
{
    struct slice best;
    return tls_name_best(&name, 1, &tls_credential_leaf(credential)->names, true, &best);
}

static bool covers_beside(const struct rehearsal *r, const struct config_listener *listener,
                          struct slice name)
{
    for (unsigned i = 0; i < listener->certificates_count; i++)
        if (listener->certificates[i] != r->certificate &&
            listener->certificates[i]->credential != NULL &&
            covers(listener->certificates[i]->credential, name))
            return true;
    return false;
}

static void greeting_names(struct rehearsal *r)
{
    for (unsigned i = 0; i < r->config->listeners_count; i++) {
        const struct config_listener *listener = &r->config->listeners[i];
        const struct slice banner = slice_of_string(listener->banner);
        if (!cert_listens(r->certificate, listener))
            continue;
        if (covers(r->new, banner))
            rehearsal_say(r, REHEARSAL_OK, "names", listener->name, "", "covers %s",
                          listener->banner);
        else if (covers_beside(r, listener, banner))
            rehearsal_say(r, REHEARSAL_OK, "names", listener->name, "",
                          "another of its certificates covers %s", listener->banner);
        else
            rehearsal_say(
                r, covers(r->certificate->credential, banner) ? REHEARSAL_FAIL : REHEARSAL_WARN,
                "names", listener->name, "have it issued for this name, too",
                "has no name for %s, which the listener greets with", listener->banner);
    }
}

/* Clients ask for names (SNI), and partners compare them: none should be lost unnoticed. */
static void former_names(struct rehearsal *r)
{
    const struct tls_names *names = &old_leaf(r)->names;
    const struct tls_names *now = &tls_credential_leaf(r->new)->names;
    char lost[CERT_WORDS_MAX] = "";
    size_t used = 0;
    for (unsigned i = 0; i < names->count; i++) {
        const struct slice name = tls_names_at(names, i);
        bool kept = covers(r->new, name);
        for (unsigned k = 0; k < now->count && !kept; k++)
            kept = slice_equal(tls_names_at(now, k), name);
        if (!kept)
            used = tls_text_append(lost, sizeof(lost), used, "%s%.*s", used == 0 ? "" : ", ",
                                   (int)name.size, (const char *)name.data);
    }
    if (used == 0)
        rehearsal_say(r, REHEARSAL_OK, "former names", "", "", "has all names of the one in use");
    else
        rehearsal_say(r, REHEARSAL_WARN, "former names", "",
                      "have it issued for them, too, unless nobody asks for them",
                      "lacks %s: clients that ask for one of them get another certificate", lost);
}

/* ---- roots ---- */

static void chain_to(struct rehearsal *r, const struct config_roots *bundle,
                     enum tls_purpose purpose)
{
    const char *name = *bundle->name == '\0' ? "system" : bundle->name;
    if (tls_credential_verify(r->new, bundle->roots, purpose, r->at, &peer_new) < 0 ||
        tls_credential_verify(r->certificate->credential, bundle->roots, purpose, r->now,
                              &peer_old) < 0) {
        rehearsal_say(r, REHEARSAL_FAIL, "roots", name, "", "no memory to verify with");
        return;
    }
    bool was = peer_old.verdict == TLS_VERDICT_VALID, is = peer_new.verdict == TLS_VERDICT_VALID;
    if (is && was && strcmp(peer_old.root, peer_new.root) != 0)
        rehearsal_say(r, REHEARSAL_WARN, "roots", name,
                      "tell partners before: some record the root (cert publish)",
                      "builds to %s, and the one in use to %s", peer_new.root, peer_old.root);
    else if (is)
        rehearsal_say(r, REHEARSAL_OK, "roots", name, "", "builds to %s", peer_new.root);
    else if (was)
        rehearsal_say(r, REHEARSAL_FAIL, "roots", name,
                      "add the issuers that lack to the file; or take one of an authority that is "
                      "in the bundle",
                      "%s: %s; the one in use is valid", tls_verdict_name(peer_new.verdict),
                      peer_new.reason);
    else if (*bundle->name == '\0')
        rehearsal_say(r, REHEARSAL_WARN, "roots", name, "",
                      "%s: %s; nor is the one in use valid by it",
                      tls_verdict_name(peer_new.verdict), peer_new.reason);
    else
        rehearsal_say(r, REHEARSAL_OK, "roots", name, "", "is not for it, before as after");
}

static void roots(struct rehearsal *r)
{
    const enum tls_purpose purpose = listens(r) ? TLS_PURPOSE_SERVER : TLS_PURPOSE_ANY;
    for (unsigned i = 0; i < r->config->roots_count; i++)
        if (r->config->roots[i].roots != NULL)
            chain_to(r, &r->config->roots[i], purpose);
}

/* Public authorities stop issuing for clients; what partners make of that is theirs. */
static void usage(struct rehearsal *r)
{
    const char *by = presenter(r);
    if (by == NULL)
        return;
    if ((tls_credential_leaf(r->new)->usage & TLS_USAGE_CLIENT) != 0)
        rehearsal_say(r, REHEARSAL_OK, "usage", by, "", "may be shown as a client's");
    else
        rehearsal_say(r, REHEARSAL_WARN, "usage", by,
                      "ask the partner whether it takes certificates for servers only, or have it "
                      "issued for both",
                      "is not for clients (extended key usage)%s",
                      (old_leaf(r)->usage & TLS_USAGE_CLIENT) != 0 ? ", and the one in use is"
                                                                   : "; nor is the one in use");
}

/* ---- who knows the one in use ---- */

static bool pin_is_among(const uint8_t (*pins)[TLS_DIGEST_BYTES], unsigned count,
                         const uint8_t pin[static TLS_DIGEST_BYTES])
{
    for (unsigned i = 0; i < count; i++)
        if (memcmp(pins[i], pin, TLS_DIGEST_BYTES) == 0)
            return true;
    return false;
}

static void own_connector(struct rehearsal *r, const struct inbound *c)
{
    const struct tls_certificate *was = old_leaf(r), *is = tls_credential_leaf(r->new);
    struct slice best;
    if (pin_is_among(c->pins, c->pins_count, was->spki)) {
        if (pin_is_among(c->pins, c->pins_count, is->spki))
            rehearsal_say(r, REHEARSAL_OK, "own pins", c->name, "", "cert-pin has both");
        else
            rehearsal_say(r, REHEARSAL_FAIL, "own pins", c->name,
                          "add the new one's to cert-pin beside it, and reload",
                          "cert-pin has the key in use, and not the new one");
    }
    if (c->names_count > 0 && c->type == CONNECTOR_OWN &&
        tls_name_best(c->names, c->names_count, &was->names, c->takes_wildcards, &best)) {
        if (tls_name_best(c->names, c->names_count, &is->names, c->takes_wildcards, &best))
            rehearsal_say(r, REHEARSAL_OK, "own names", c->name, "", "cert-name fits");
        else
            rehearsal_say(r, REHEARSAL_FAIL, "own names", c->name,
                          "add its name to cert-name, and reload",
                          "cert-name fits the one in use, and not the new one");
    }
}

/* A next hop that presents this very certificate: another node of ours. */
static void own_next_hop(struct rehearsal *r, const struct outbound *c)
{
    const struct tls_client_policy *tls = &c->route.tls;
    if (!pin_is_among(tls->pins, tls->pins_count, old_leaf(r)->spki))
        return;
    if (pin_is_among(tls->pins, tls->pins_count, tls_credential_leaf(r->new)->spki))
        rehearsal_say(r, REHEARSAL_OK, "own pins", c->route.name, "", "tls-pin has both");
    else
        rehearsal_say(r, REHEARSAL_FAIL, "own pins", c->route.name,
                      "add the new one's to tls-pin beside it, and reload",
                      "tls-pin has the key in use, and not the new one");
}

static void expected_names(struct rehearsal *r, const struct config_expectation *e)
{
    struct slice best;
    if (e->names_count == 0)
        return;
    if (tls_name_best(e->names, e->names_count, &tls_credential_leaf(r->new)->names, true, &best))
        rehearsal_say(r, REHEARSAL_OK, "partner-expects", e->name, "", "the name %.*s fits",
                      (int)best.size, (const char *)best.data);
    else
        rehearsal_say(r, REHEARSAL_FAIL, "partner-expects", e->name,
                      "have it issued for that name, or have the partner change its record first",
                      "has no name that the partner expects, such as %.*s", (int)e->names[0].size,
                      (const char *)e->names[0].data);
}

static void expected_pins(struct rehearsal *r, const struct config_expectation *e)
{
    const struct tls_certificate *was = old_leaf(r), *is = tls_credential_leaf(r->new);
    if (e->pins_count == 0)
        return;
    if (pin_is_among(e->pins, e->pins_count, is->spki)) {
        rehearsal_say(r, REHEARSAL_OK, "partner-expects", e->name, "", "the new key is pinned%s",
                      pin_is_among(e->pins, e->pins_count, was->spki) ? ", beside the one in use"
                                                                      : "");
        return;
    }
    char pin[TLS_DIGEST_HEX_BYTES], way[CERT_WORDS_MAX];
    tls_text_hex(slice_of(is->spki, TLS_DIGEST_BYTES), pin, sizeof(pin));
    snprintf(way, sizeof(way),
             "have the partner record sha256:%s beside the present one; then write it here", pin);
    rehearsal_say(r, REHEARSAL_FAIL, "partner-expects", e->name, way,
                  "the new key is not among the pins it has recorded%s",
                  pin_is_among(e->pins, e->pins_count, was->spki) ? "" : "; nor is the one in use");
}

static bool root_is_expected(const struct rehearsal *r, const struct config_expectation *e)
{
    for (unsigned i = 0; i < e->bundles_count; i++)
        if (tls_credential_verify(r->new, e->bundles[i]->roots, TLS_PURPOSE_ANY, r->at,
                                  &peer_new) == 0 &&
            peer_new.verdict == TLS_VERDICT_VALID)
            return true;
    for (unsigned i = 0; i < r->config->roots_count && e->roots_count > 0; i++)
        if (r->config->roots[i].roots != NULL &&
            tls_credential_verify(r->new, r->config->roots[i].roots, TLS_PURPOSE_ANY, r->at,
                                  &peer_new) == 0 &&
            peer_new.root[0] != '\0' &&
            pin_is_among(e->roots, e->roots_count, peer_new.root_digest))
            return true;
    return false;
}

static void expected_roots(struct rehearsal *r, const struct config_expectation *e)
{
    if (e->roots_count + e->bundles_count == 0)
        return;
    if (root_is_expected(r, e))
        rehearsal_say(r, REHEARSAL_OK, "partner-expects", e->name, "", "builds to its root");
    else
        rehearsal_say(r, REHEARSAL_FAIL, "partner-expects", e->name,
                      "have the partner record the new root first; then write it here",
                      "does not build to a root that it expects");
}

void rehearse_offline(struct rehearsal *r)
{
    key_fits(r);
    key_kind(r);
    dates(r);
    greeting_names(r);
    former_names(r);
    roots(r);
    usage(r);
    for (unsigned i = 0; i < inbound_count(r->config->inbound); i++)
        own_connector(r, inbound_at(r->config->inbound, i));
    for (unsigned i = 0; i < r->config->outbound.count; i++)
        own_next_hop(r, &r->config->outbound.connectors[i]);
    for (unsigned i = 0; i < r->config->expectations_count; i++) {
        const struct config_expectation *e = &r->config->expectations[i];
        if (e->certificate != NULL && e->certificate != r->certificate)
            continue;
        expected_names(r, e);
        expected_pins(r, e);
        expected_roots(r, e);
    }
    if (!listens(r) && presenter(r) == NULL)
        rehearsal_say(r, REHEARSAL_WARN, "use", "", "", "no listener and no connector presents it");
}
