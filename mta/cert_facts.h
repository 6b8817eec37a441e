/*
 * cert_facts.h - what `ringpost cert` says of a certificate of ours beside what stands in it
 *
 * Who presents it, the TLSA records that belong to it, and the addresses that whoever verifies it
 * asks: revocation lists, responders, issuers. As JSON, of which commands print lines.
 */
#ifndef RINGPOST_MTA_CERT_FACTS_H
#define RINGPOST_MTA_CERT_FACTS_H

#include <jansson.h>

#include "mta/config.h"
#include "tls/tls_credential.h"

enum { CERT_WORDS_MAX = 1'024, CERT_HOST_PORT_MAX = 300 };

bool cert_listens(const struct config_certificate *certificate,
                  const struct config_listener *listener);
/* "listener in", "outbound bank". */
json_t *cert_users(const struct config *config, const struct config_certificate *certificate);
/* Records for credential, wherever certificate is presented: the MX host's own name is what the
 * listener greets with (RFC 7672 2.2.3). */
json_t *cert_tlsa(const struct config *config, const struct config_certificate *certificate,
                  const struct tls_credential *credential);
/* Adds one, unless it is there. */
void cert_tlsa_add(json_t *records, const struct tls_credential_text *text, unsigned port,
                   const char *name);
/* Sets lists: organisation, unit (of the subject); crl, ocsp, issuers: URLs. */
void cert_pointers(struct slice der, json_t *object);
/* Where a URL leads, "crl.example.org:80". False: it is none, or of a scheme without hosts. */
bool cert_host_port(const char *url, char text[static CERT_HOST_PORT_MAX]);
/* The text, unless it is in there. */
void cert_list_add(json_t *list, const char *text);
/* The first bundle that the chain leads to a root of; NULL: there is none. text has root and
 * verdict. -ENOMEM, or 0. */
[[nodiscard]] int cert_root(const struct config *config, const struct tls_credential *credential,
                            int64_t now, const struct config_roots **bundle,
                            struct tls_credential_text *text);

/* cert_publish.c, cert_rehearse.c, cert_roots.c */
int cert_publish_main(int argc, char **argv);
int cert_rehearse_main(int argc, char **argv);
int cert_roots_main(int argc, char **argv);

#endif
