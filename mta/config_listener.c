/*
 * config_listener.c - listener "title" { }
 */
#include "mta/config_build.h"

static const char *const protocols[] = { [CONFIG_SMTP] = "smtp", NULL };

static void listener_build(struct config_builder *builder, const struct config_section *section,
                           struct config_listener *listener)
{
    const struct config *config = builder->config;
    config_title_check(section);
    listener->name = config_take_string(builder, section->title);
    listener->line = section->line;
    listener->addresses =
        config_addresses(builder, section, "addresses", CONFIG_LISTENER_ADDRESSES_MAX, 25,
                         &listener->addresses_count);
    unsigned given;
    if (config_file_list(section, "addresses", &given) == NULL && !builder->partial)
        config_file_error(
            section, "addresses", 0,
            "a listener needs one; write addresses = { \"0.0.0.0:25\", \"[::]:25\" }");
    listener->protocol =
        (enum config_protocol)config_file_choice(section, "protocol", protocols, CONFIG_SMTP);
    listener->banner = config_domain(builder, section, "banner", config->hostname);
    listener->proxy_from = config_networks(builder, section, "proxy-from", "");
    listener->backlog = (unsigned)config_file_number(section, "backlog", 1, 65'535, 1'024);
    listener->size_max =
        config_file_size(section, "size-max", 1'024, config->limits.message_bytes_max,
                         config->limits.message_bytes_max);
    listener->relay = config_file_bool(section, "relay", true);
    config_listener_tls(builder, section, listener);
}

/* Two listeners cannot have one socket; a wildcard and an address of the same port can. */
static void addresses_apart(const struct config_section *section,
                            const struct config_listener *listeners, unsigned index)
{
    const struct config_listener *mine = &listeners[index];
    for (unsigned i = 0; i < index; i++)
        for (unsigned a = 0; a < listeners[i].addresses_count; a++)
            for (unsigned b = 0; b < mine->addresses_count; b++) {
                if (!net_equal(&listeners[i].addresses[a], &mine->addresses[b]))
                    continue;
                char text[NET_TEXT_MAX];
                net_text(&mine->addresses[b], true, text);
                config_file_error(section, "addresses", 0,
                                  "%s belongs to listener \"%s\" already; an address can have one "
                                  "listener",
                                  text, listeners[i].name);
            }
}

void config_build_listeners(struct config_builder *builder)
{
    unsigned count = config_sections(builder, "listener", CONFIG_LISTENERS_MAX,
                                     "listeners; give one several addresses");
    if (count == 0 && !builder->partial)
        config_report_add(builder->report, CONFIG_ERROR, builder->config->file, 0, "listener",
                          "there is none; write listener \"in\" { addresses = { "
                          "\"127.0.0.1:25\" } }");
    struct config_listener *listeners = config_take(builder, count, sizeof(*listeners));
    if (listeners == NULL)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct config_section section = config_file_section(builder->file, "listener", i);
        listener_build(builder, &section, &listeners[i]);
        addresses_apart(&section, listeners, i);
    }
    builder->config->listeners = listeners;
    builder->config->listeners_count = count;
}
