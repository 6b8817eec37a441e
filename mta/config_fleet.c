/*
 * config_fleet.c - by which names our own hosts are known in Received fields
 *
 * What this host writes there is its hostname or a listener's banner; what the others of the fleet
 * write, only the file can tell: delivery { fleet-names }. Names that anybody's machine may have,
 * those without a dot and localhost.localdomain, do not count; a file that lists one is refused.
 *
 * Bound: CONFIG_FLEET_NAMES_MAX patterns.
 */
#include <errno.h>

#include "mta/config_build.h"

static bool is_of_anybody(struct slice name)
{
    return slice_find(name, '.') < 0 || slice_equal_nocase(name, SLICE("localhost.localdomain")) ||
           slice_equal_nocase(name, SLICE("*.localdomain"));
}

static void name_add(struct config_builder *builder, struct pattern_set *names, const char *name)
{
    uint32_t other;
    const char *why;
    if (!is_of_anybody(slice_of_string(name)) &&
        pattern_set_add(names, slice_of_string(name), 0, &other, &why) == -ENOMEM)
        builder->out_of_memory = true;
}

static void names_read(struct config_builder *builder, const struct config_section *section,
                       struct pattern_set *names)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, "fleet-names", &count);
    if (count > CONFIG_FLEET_NAMES_MAX) {
        config_file_error(section, "fleet-names", values[CONFIG_FLEET_NAMES_MAX].line,
                          "more than %d names; write *.d for all below d", CONFIG_FLEET_NAMES_MAX);
        count = CONFIG_FLEET_NAMES_MAX;
    }
    for (unsigned i = 0; i < count; i++) {
        if (is_of_anybody(slice_of_string(values[i].text)))
            config_file_error(section, "fleet-names", values[i].line,
                              "`%.64s` may be the name of anybody's host, whose mail would count "
                              "as ours; write whole names, or *.d for all below d",
                              values[i].text);
        else
            config_pattern(builder, section, "fleet-names", &values[i], names);
    }
}

void config_build_fleet(struct config_builder *builder, const struct config_section *section)
{
    struct config *config = builder->config;
    struct pattern_set *names = config_take_patterns(builder);
    config->limits.received_ours_max =
        (unsigned)config_file_number(section, "fleet-loop-limit", 2, 1'000, 5);
    if (names == NULL)
        return;
    names_read(builder, section, names);
    name_add(builder, names, config->hostname);
    for (unsigned i = 0; i < config->listeners_count; i++)
        name_add(builder, names, config->listeners[i].banner);
    config->delivery.fleet_names = names;
}
