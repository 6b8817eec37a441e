/*
 * generation_tls.c - TLS contexts of one configuration in one shard
 *
 * Owned by the generation, so they live as long as the last session that began with it.
 */
#include "mta/generation_tls.h"

#include <errno.h>
#include <stdlib.h>

#include "mta/config.h"
#include "tls/tls_client.h"
#include "tls/tls_server.h"

enum { MS_IN_S = 1'000 };

static int server_make(const struct config *config, const struct config_listener *listener,
                       struct tls_shard *tls, struct tls_server **out)
{
    struct tls_credential *credentials[TLS_CREDENTIALS_MAX];
    for (unsigned i = 0; i < listener->certificates_count; i++)
        credentials[i] = listener->certificates[i]->credential;
    const struct tls_server_options options = {
        .name = listener->name,
        .credentials = credentials,
        .credentials_count = listener->certificates_count,
        .version_min = listener->tls_min,
        .allows_cbc = listener->tls_cbc,
        .lifetime_s = (uint32_t)(config->tls.ticket_rotate_ms / MS_IN_S),
        .bundles = listener->bundles,
        .bundles_count = listener->bundles_count,
        .asked_names = listener->request_on_sni,
        .asked_names_count = listener->request_on_sni_count,
    };
    return tls_server_make(&options, tls, out);
}

int generation_tls_make(struct generation *generation, struct tls_shard *tls)
{
    const struct config *config = generation->config;
    generation->tls_servers = calloc(config->listeners_count, sizeof(struct tls_server *));
    int r = generation->tls_servers == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; r == 0 && i < config->listeners_count; i++)
        if (config->listeners[i].tls != CONFIG_TLS_NONE)
            r = server_make(config, &config->listeners[i], tls, &generation->tls_servers[i]);
    if (r == 0)
        r = tls_client_make(tls, &generation->tls_client);
    if (r < 0)
        generation_tls_free(generation);
    return r;
}

void generation_tls_free(struct generation *generation)
{
    const struct config *config = generation->config;
    for (unsigned i = 0; generation->tls_servers != NULL && i < config->listeners_count; i++)
        tls_server_free(generation->tls_servers[i]);
    free(generation->tls_servers);
    tls_client_free(generation->tls_client);
    generation->tls_servers = NULL;
    generation->tls_client = NULL;
}
