/*
 * check_asked.c - which clients are asked for a certificate, and whether anything comes of it
 *
 * A connector that goes by certificates, and whose peers no listener would ask, takes no mail from
 * them (L-05, an error; a warning while it is only tested and has no effect). Names that are
 * reserved for asking (request-on-sni) should be borne by a certificate of the listener, or clients
 * that verify go away; and somebody should look at what is shown. For a deliberately large file
 * this costs connectors times listeners.
 */
#include <stdio.h>
#include <string.h>

#include "mta/check.h"
#include "mta/config.h"
#include "mta/inbound.h"
#include "mta/networks.h"
#include "tls/tls_credential.h"

enum { LINT_KEY_MAX = 128 };

/* As far as one prefix of the set shows: in doubt it does not. */
static bool holds_prefix(const struct networks *networks, const struct net_prefix *prefix)
{
    struct net_address first = { .port = 0 };
    memcpy(first.octets, prefix->octets, sizeof(first.octets));
    const struct net_prefix *around = networks_find(networks, &first, NULL);
    return around != NULL && around->bits <= prefix->bits;
}

/* All that it lists; what lists nothing is everybody, and not everybody is passed over. */
static bool never_asked(const struct config_listener *listener, const struct networks *addresses)
{
    const unsigned count = networks_count(addresses);
    for (unsigned i = 0; i < count; i++)
        if (!holds_prefix(listener->never_ask, networks_prefix(addresses, i)))
            return false;
    return count > 0;
}

static bool is_asked(const struct config *config, const struct inbound *c)
{
    for (unsigned i = 0; i < config->listeners_count; i++)
        if (config->listeners[i].tls != CONFIG_TLS_NONE &&
            !never_asked(&config->listeners[i], c->addresses))
            return true;
    return false;
}

static bool looks_at_certificates(const struct inbound *c)
{
    return c->state != CONNECTOR_OFF && c->identify != INBOUND_BY_NOTHING &&
           c->identify != INBOUND_BY_ADDRESS;
}

static void lint_connector(const struct config *config, struct config_report *report,
                           const struct inbound *c)
{
    char key[LINT_KEY_MAX];
    if (!looks_at_certificates(c) || c->identify == INBOUND_BY_EITHER || is_asked(config, c))
        return;
    snprintf(key, sizeof(key), "inbound \"%.64s\"", c->name);
    config_report_add(report, c->state == CONNECTOR_TEST ? CONFIG_WARNING : CONFIG_ERROR,
                      config->file, c->line, key,
                      "goes by certificates, and no listener would ask its clients for one (L-05); "
                      "give a listener certificates, and take these clients out of its never-ask");
}

static bool is_borne(const struct config_listener *listener, const struct slice *name)
{
    struct slice best;
    for (unsigned i = 0; i < listener->certificates_count; i++) {
        const struct tls_credential *credential = listener->certificates[i]->credential;
        if (credential == NULL ||
            tls_name_best(name, 1, &tls_credential_leaf(credential)->names, true, &best))
            return true; /* what cannot be read is told elsewhere */
    }
    return false;
}

static void lint_names(const struct config *config, struct config_report *report,
                       const struct config_listener *listener, bool anybody_looks)
{
    char key[LINT_KEY_MAX];
    snprintf(key, sizeof(key), "listener \"%.64s\": request-on-sni", listener->name);
    for (unsigned i = 0; i < listener->request_on_sni_count; i++) {
        const struct slice *name = &listener->request_on_sni[i];
        if (!is_borne(listener, name))
            config_report_add(report, CONFIG_WARNING, config->file, listener->line, key,
                              "no certificate of this listener bears %.*s, so clients that verify "
                              "it will not come by that name; add one that does to certificates",
                              (int)name->size, (const char *)name->data);
    }
    if (listener->request_on_sni_count > 0 && !anybody_looks)
        config_report_add(report, CONFIG_WARNING, config->file, listener->line, key,
                          "asks for certificates, and no inbound connector looks at them; write "
                          "one with cert-name, or remove the line");
}

void check_asked(const struct config *config, struct config_report *report)
{
    bool anybody_looks = false;
    for (unsigned i = 0; i < inbound_count(config->inbound); i++) {
        const struct inbound *c = inbound_at(config->inbound, i);
        anybody_looks = anybody_looks || looks_at_certificates(c);
        lint_connector(config, report, c);
    }
    for (unsigned i = 0; i < config->listeners_count; i++)
        lint_names(config, report, &config->listeners[i], anybody_looks);
}
