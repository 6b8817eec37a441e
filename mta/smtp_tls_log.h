/*
 * smtp_tls_log.h - what the log says of a TLS session, the same for both sides of mail
 */
#ifndef RINGPOST_MTA_SMTP_TLS_LOG_H
#define RINGPOST_MTA_SMTP_TLS_LOG_H

#include "core/log.h"
#include "tls/tls_session.h"

void smtp_tls_log(const struct tls_facts *facts, struct log_line *line);

#endif
