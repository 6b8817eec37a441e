/*
 * config_default.c - the configuration of a first look: nothing leaves the machine, no root needed
 */
#include "mta/config.h"

const char config_default_text[] =
    "# ringpost: the built-in default. All on loopback; mail for anybody below example.org and\n"
    "# .test goes to a sink on port 2526.\n"
    "hostname = localhost.localdomain\n"
    "user = \"\"\n"
    "\n"
    "spool { directory = spool }\n"
    "\n"
    "listener \"in\" {\n"
    "    addresses = { \"127.0.0.1:2525\", \"[::1]:2525\" }\n"
    "}\n"
    "relay {\n"
    "    domains = { example.org, \"*.example.org\", \"*.test\" }\n"
    "}\n"
    "limits { per-address = 0 per-v4-24 = 0 per-v6-64 = 0 }\n"
    "\n"
    "outbound \"sink\" {\n"
    "    type = own\n"
    "    state = enforce\n"
    "    domains = { \"*\" }\n"
    "    hosts = { \"127.0.0.1:2526\" }\n"
    "}\n"
    "admin {\n"
    "    socket = admin.sock\n"
    "    addresses = { \"127.0.0.1:8025\" }\n"
    "}\n";
