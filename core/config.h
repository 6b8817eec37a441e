/*
 * config.h - a thin layer over libConfuse: a file, a schema, and every complaint with its place
 *
 *   schema (cfg_opt_t) + file --config_open--> cfg_t --config_get_*--> values in range
 *                                  '--complaints----------'--> struct config_errors
 *
 * A complaint reads "file:line: section "title": key: what is wrong; way out". Unknown keys are
 * errors. libConfuse stops at the first error of syntax, and remembers no lines of values: what is
 * out of range is placed at the end of its section, and named. Its lexer is global: one file at a
 * time, which a lock sees to.
 *
 *   static cfg_opt_t listener[] = { CFG_STR_LIST("address", "{}", CFGF_NONE),
 *                                   CFG_STR("idle", "5m", CFGF_NONE), CFG_END() };
 *   static cfg_opt_t top[] = { CFG_SEC("listener", listener,
 *                                      CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES), CFG_END() };
 */
#ifndef RINGPOST_CORE_CONFIG_H
#define RINGPOST_CORE_CONFIG_H

#include <confuse.h>

#include "core/slice.h"

enum { CONFIG_ERRORS_MAX = 64, CONFIG_ERROR_BYTES = 256 };

struct config_errors {
    unsigned count; /* kept in text, at most CONFIG_ERRORS_MAX */
    unsigned more;  /* that were not kept */
    char text[CONFIG_ERRORS_MAX][CONFIG_ERROR_BYTES];
};

/* Times, sizes and shares as an operator writes them. 0; -EINVAL: not one; -ERANGE: more than 64
 * bits hold. *value is untouched then. */
[[nodiscard]] int config_duration(struct slice text, uint64_t *ms); /* 5s 10m 1h30m 4d 500ms 0 */
[[nodiscard]] int config_size(struct slice text, uint64_t *bytes);  /* 512 64K 50M 1G 2T */
[[nodiscard]] int config_share(struct slice text, unsigned *per_mille); /* 0% to 100%, 12.5% */

/* errors is emptied first. 0 and *cfg (cfg_free it); or -ENOENT, -EACCES .. of the file, -EINVAL,
 * -ENOMEM: errors says why. */
[[nodiscard]] int config_open(const char *path, cfg_opt_t *schema, struct config_errors *errors,
                              cfg_t **cfg);

/* key NULL: the section as a whole. Say what is wrong and what would be right. */
void config_complain(struct config_errors *errors, cfg_t *cfg, const char *key, const char *format,
                     ...) PRINTF_LIKE(4, 5);

/* Values of CFG_STR and CFG_INT keys, bounds inclusive. Anything else is a complaint that names the
 * bounds, and reads as min. */
uint64_t config_get_duration(cfg_t *cfg, const char *key, uint64_t min_ms, uint64_t max_ms,
                             struct config_errors *errors);
uint64_t config_get_size(cfg_t *cfg, const char *key, uint64_t min, uint64_t max,
                         struct config_errors *errors);
unsigned config_get_share(cfg_t *cfg, const char *key, unsigned min, unsigned max,
                          struct config_errors *errors);
long config_get_number(cfg_t *cfg, const char *key, long min, long max,
                       struct config_errors *errors);
/* A CFG_STR_LIST's values, owned by cfg, into list; how many. More than capacity: a complaint. */
unsigned config_get_list(cfg_t *cfg, const char *key, const char **list, unsigned capacity,
                         struct config_errors *errors);

#endif
