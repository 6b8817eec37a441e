/*
 * config_lists.c - lists of addresses, networks and patterns, element by element; how many sections
 *
 * An element that is wrong is reported with its own line and left out; the others are read on.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/config_build.h"

enum { ELEMENT_MAX = 128 };

/* A prefix in words that say what is wrong with it; 0 or -EINVAL. */
static int prefix_read(const struct config_section *section, const char *key, const char *text,
                       unsigned line, struct net_prefix *prefix)
{
    struct slice slice = slice_of_string(text);
    if (net_parse_prefix(slice, prefix) == 0) {
        static const struct net_address any_v4 = { .octets = { [10] = 0xff, [11] = 0xff } };
        if (prefix->bits >= 96 || !net_in(prefix, &any_v4))
            return 0;
        /* IPv4 lives inside IPv6 here (core/net.h): that would be a surprise */
        config_file_error(section, key, line,
                          "`%.64s` would cover all of IPv4 as well; write 2000::/3 for IPv6, "
                          "0.0.0.0/0 for IPv4",
                          text);
        return -EINVAL;
    }
    ptrdiff_t slash = slice_find(slice, '/');
    struct net_address address;
    uint64_t bits;
    struct slice host = slice_part(slice, 0, slash < 0 ? slice.size : (size_t)slash);
    if (slash >= 0 && slice_find(host, '[') < 0 && net_parse(host, 0, &address) == 0 &&
        address.port == 0) {
        uint64_t most = net_is_v4(&address) ? 32 : 128;
        if (slice_to_u64(slice_from(slice, (size_t)slash + 1), most, &bits) == 0) {
            struct net_address cut = net_masked(&address, (unsigned)(bits + 128 - most));
            char right[NET_TEXT_MAX];
            net_text(&cut, false, right);
            config_file_error(section, key, line,
                              "`%.64s` has bits set behind its prefix; write %s/%u, or the single "
                              "address without /",
                              text, right, (unsigned)bits);
            return -EINVAL;
        }
    }
    config_file_error(section, key, line,
                      "`%.64s` is no network; write 192.0.2.0/24, 2001:db8::/32 or an address "
                      "(without port)",
                      text);
    return -EINVAL;
}

static void prefix_add(struct config_builder *builder, const struct config_section *section,
                       const char *key, const char *text, unsigned line, struct networks *networks)
{
    struct net_prefix prefix;
    if (prefix_read(section, key, text, line, &prefix) < 0)
        return;
    int r = networks_add(networks, &prefix, line, NULL);
    if (r == -EEXIST)
        config_file_warn(section, key, line, "`%.64s` is in this list twice; remove one", text);
    else if (r == -ENOSPC)
        config_file_error(section, key, line, "more than %d networks; join them to larger ones",
                          NETWORKS_PREFIXES_MAX);
    else if (r < 0)
        builder->out_of_memory = true;
}

/* @name: all of addresses "name" { networks }. */
static void named_networks_add(struct config_builder *builder, const struct config_section *section,
                               const char *key, const struct config_value *value,
                               struct networks *networks)
{
    unsigned count = config_file_count(builder->file, "addresses");
    for (unsigned i = 0; i < count; i++) {
        struct config_section named = config_file_section(builder->file, "addresses", i);
        if (strcmp(named.title, value->text + 1) != 0)
            continue;
        unsigned networks_given;
        const struct config_value *values = config_file_list(&named, "networks", &networks_given);
        for (unsigned k = 0; k < networks_given; k++)
            prefix_add(builder, &named, "networks", values[k].text, values[k].line, networks);
        return;
    }
    config_file_error(section, key, value->line,
                      "there is no list %.64s (L-02); write addresses \"%.63s\" { networks = { "
                      "192.0.2.0/28 } }",
                      value->text, value->text + 1);
}

const struct networks *config_networks(struct config_builder *builder,
                                       const struct config_section *section, const char *key,
                                       const char *default_text)
{
    struct networks *networks = config_take_networks(builder);
    if (networks == NULL)
        return NULL;
    unsigned count;
    const struct config_value *values = config_file_list(section, key, &count);
    for (unsigned i = 0; i < count; i++) {
        if (values[i].text[0] == '@')
            named_networks_add(builder, section, key, &values[i], networks);
        else
            prefix_add(builder, section, key, values[i].text, values[i].line, networks);
    }
    if (!config_file_given(section, key)) {
        struct slice rest = slice_of_string(default_text);
        while (rest.size > 0) {
            ptrdiff_t comma = slice_find(rest, ',');
            size_t size = comma < 0 ? rest.size : (size_t)comma;
            char element[ELEMENT_MAX];
            slice_to_string(slice_part(rest, 0, size), element, sizeof(element));
            prefix_add(builder, section, key, element, 0, networks);
            rest = slice_from(rest, size + 1);
        }
    }
    if (networks_seal(networks) < 0)
        builder->out_of_memory = true;
    return networks;
}

const struct net_address *config_addresses(struct config_builder *builder,
                                           const struct config_section *section, const char *key,
                                           unsigned max, uint16_t default_port, unsigned *count)
{
    unsigned given;
    const struct config_value *values = config_file_list(section, key, &given);
    *count = 0;
    if (given > max) {
        config_file_error(section, key, values[max].line, "more than %u addresses; keep %u", max,
                          max);
        given = max;
    }
    struct net_address *addresses = config_take(builder, given, sizeof(*addresses));
    if (addresses == NULL)
        return NULL;
    for (unsigned i = 0; i < given; i++) {
        struct net_address *address = &addresses[*count];
        const char *text = values[i].text;
        /* is 2001:db8::1:25 an address or a port behind one? */
        bool unclear = default_port != 0 && *text != '[' && strchr(text, ':') != strrchr(text, ':');
        if (unclear || net_parse(slice_of_string(text), default_port, address) < 0) {
            config_file_error(section, key, values[i].line,
                              "`%.64s` is no address; write %s, with IPv6 in [ ]", text,
                              default_port == 0 ? "192.0.2.1 or [2001:db8::1]"
                                                : "192.0.2.1:25 or [2001:db8::1]:25");
            continue;
        }
        if (default_port == 0 && address->port != 0) {
            config_file_error(section, key, values[i].line,
                              "`%.64s` has a port; write the address alone", text);
            continue;
        }
        bool twice = false;
        for (unsigned k = 0; k < *count; k++)
            twice = twice || net_equal(&addresses[k], address);
        if (twice)
            config_file_error(section, key, values[i].line,
                              "`%.64s` is in the list twice; remove "
                              "one",
                              text);
        else
            ++*count;
    }
    return addresses;
}

void config_pattern(struct config_builder *builder, const struct config_section *section,
                    const char *key, const struct config_value *value, struct pattern_set *set)
{
    uint32_t other;
    const char *why;
    int r = pattern_set_add(set, slice_of_string(value->text), 0, &other, &why);
    if (r == -EEXIST)
        config_file_warn(section, key, value->line, "`%.64s` is there twice; remove one",
                         value->text);
    else if (r == -ENOMEM)
        builder->out_of_memory = true;
    else if (r < 0)
        config_file_error(section, key, value->line, "`%.64s`: %s", value->text, why);
}

void config_patterns(struct config_builder *builder, const struct config_section *section,
                     const char *key, struct pattern_set *set)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, key, &count);
    for (unsigned i = 0; i < count && set != NULL; i++)
        config_pattern(builder, section, key, &values[i], set);
}

const char *config_domain(struct config_builder *builder, const struct config_section *section,
                          const char *key, const char *otherwise)
{
    const struct config_value *value = config_file_single(section, key);
    char name[PATTERN_TEXT_MAX];
    struct net_address address;
    if (value == NULL)
        return otherwise;
    struct slice text = slice_of_string(value->text);
    bool bad = text.size == 0 || text.data[0] == '[' || net_parse(text, 0, &address) == 0;
    if (bad || pattern_normalise(text, name) < 0) {
        config_file_error(section, key, value->line,
                          "`%.64s` is no host name; write for example mx1.example.org",
                          value->text);
        return otherwise;
    }
    return config_take_string(builder, name);
}

unsigned config_sections(struct config_builder *builder, const char *name, unsigned max,
                         const char *words)
{
    unsigned count = config_file_count(builder->file, name);
    if (count > max)
        config_report_add(builder->report, CONFIG_ERROR, builder->config->file, 0, name,
                          "more than %u %s", max, words);
    return MIN(count, max);
}

bool config_title_check(const struct config_section *section)
{
    size_t size = strlen(section->title);
    bool good = size > 0 && size <= ROUTE_NAME_MAX;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = ascii_lower((uint8_t)section->title[i]);
        good = good && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                        c == '-');
    }
    if (!good)
        config_file_error(section, "", 0,
                          "a title has 1 to %d letters, digits, '.', '_' or '-'; choose another",
                          ROUTE_NAME_MAX);
    return good;
}
