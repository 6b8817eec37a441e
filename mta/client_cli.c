/*
 * client_cli.c - `ringpost reload` and `ringpost tls rotate`, and what others need
 *
 * HTTP by libcurl, over the unix socket that the configuration names (or --socket).
 */
#include "mta/client_cli.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "mta/cli.h"
#include "mta/config.h"

enum { ANSWER_BYTES_MAX = 64 << 20, URL_MAX = 16'384 };

static size_t reply_add(char *data, size_t size, size_t count, void *argument)
{
    struct client_reply *reply = argument;
    size_t bytes = size * count;
    if (reply->size + bytes > ANSWER_BYTES_MAX)
        return 0;
    char *text = realloc(reply->text, reply->size + bytes + 1);
    if (text == NULL)
        return 0;
    memcpy(text + reply->size, data, bytes);
    reply->text = text;
    reply->size += bytes;
    reply->text[reply->size] = '\0';
    return bytes;
}

long client_ask(const char *socket, const char *path, bool post, struct client_reply *reply)
{
    char url[URL_MAX];
    *reply = (struct client_reply) { 0 };
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        return -1;
    snprintf(url, sizeof(url), "http://localhost%s", path);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, reply_add);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    if (post)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply->status);
    else
        fprintf(
            stderr,
            "ringpost: %s: %s (is `ringpost serve` running, and may you use its admin socket?)\n",
            socket, curl_easy_strerror(code));
    curl_easy_cleanup(curl);
    return code == CURLE_OK ? reply->status : -1;
}

bool client_answers(const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    if (*path == '\0' || strlen(path) >= sizeof(name.sun_path))
        return false;
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answered = fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0;
    if (fd >= 0)
        close(fd);
    return answered;
}

json_t *client_ask_json(const char *socket, const char *path)
{
    struct client_reply reply;
    const long status = client_ask(socket, path, false, &reply);
    json_t *object = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    return object;
}

void client_path_add(char *path, size_t room, const char *key, const char *value)
{
    char *escaped = curl_easy_escape(NULL, value, 0);
    size_t size = strlen(path);
    snprintf(path + size, room - size, "%c%s=%s", strchr(path, '?') == NULL ? '?' : '&', key,
             escaped == NULL ? "" : escaped);
    curl_free(escaped);
}

char *client_socket(const struct client_arguments *arguments)
{
    if (arguments->socket != NULL)
        return strdup(arguments->socket);
    struct config *config = cli_config(arguments->config);
    char *path = NULL;
    if (config == NULL)
        fprintf(stderr, "ringpost: the configuration has errors, so the server would refuse it; "
                        "--socket reaches the server without it\n");
    else if (config->admin.socket[0] == '\0')
        fprintf(stderr, "ringpost: the configuration names no admin socket\n");
    else
        path = strdup(config->admin.socket);
    config_free(config);
    return path;
}

/* ---- commands ---- */

static const char reload_help[] =
    "ringpost reload [--require-validated] [--accept-weaker]    read the configuration again\n"
    "\n"
    "All shards take the new configuration, or none does and the reasons are printed.\n"
    "      --require-validated   refused, too, when an outbound connector in state enforce was "
    "not\n"
    "                            found good by `connector validate` as it is written now\n"
    "      --accept-weaker       taken even if mail that waits would go where less TLS is "
    "demanded;\n"
    "                            what is queued keeps the level on record, unless its connector "
    "is\n"
    "                            sticky = no\n"
    "Where waiting mail would go by another connector, or where less is demanded, it is counted "
    "and\n"
    "said, before anything changes.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0 reloaded, 1 refused or not reachable, 2 usage.\n";

static const char rotate_help[] =
    "ringpost tls rotate                        new keys for session tickets, now\n"
    "\n"
    "The keys in use still open the tickets that they sealed; those before them do not any more.\n"
    "With tls { ticket-key-file } the new keys are written to that file, from which the rest of "
    "the\n"
    "fleet takes them once it is distributed. To make all tickets worthless, rotate twice.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0 rotated, 1 refused (no tickets, a key file that cannot be written) or not\n"
    "reachable, 2 usage.\n";

int client_arguments_read(int argc, char **argv, struct client_arguments *a)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' },
        { "max", required_argument, NULL, 'n' },    { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
    };
    *a = (struct client_arguments) { .most = 1'000 };
    int option;
    while ((option = getopt_long(argc, argv, "c:s:n:h", options, NULL)) != -1) {
        uint64_t number = 0;
        switch (option) {
        case 'c': a->config = optarg; break;
        case 's': a->socket = optarg; break;
        case 'j': a->json = true; break;
        case 'h': a->help = true; break;
        case 'n':
            if (slice_to_u64(slice_of_string(optarg), UINT32_MAX, &number) < 0)
                return -EINVAL;
            a->most = number;
            break;
        default: return -EINVAL;
        }
    }
    return 0;
}

int client_post(const char *socket, const char *path)
{
    struct client_reply reply;
    long status = client_ask(socket, path, true, &reply);
    if (status >= 0)
        fputs(reply.text == NULL ? "" : reply.text, status == 200 ? stdout : stderr);
    free(reply.text);
    return status == 200 ? 0 : 1;
}

static int post_main(int argc, char **argv, const char *help, const char *path)
{
    struct client_arguments a;
    int r = client_arguments_read(argc, argv, &a);
    if (r < 0 || a.help || argc != optind) {
        fputs(help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    int result = socket == NULL ? 1 : client_post(socket, path);
    free(socket);
    return result;
}

int reload_main(int argc, char **argv)
{
    static const char *const wishes[] = { "require-validated", "accept-weaker" };
    char path[64] = "/v1/reload";
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        size_t wish = 0;
        while (wish < ARRAY_COUNT(wishes) &&
               (strncmp(argv[i], "--", 2) != 0 || strcmp(argv[i] + 2, wishes[wish]) != 0))
            wish++;
        if (wish == ARRAY_COUNT(wishes))
            argv[kept++] = argv[i];
        else if (strstr(path, wishes[wish]) == NULL)
            client_path_add(path, sizeof(path), wishes[wish], "1");
    }
    argv[kept] = NULL;
    return post_main(kept, argv, reload_help, path);
}

int rotate_main(int argc, char **argv)
{
    return post_main(argc, argv, rotate_help, "/v1/tls/rotate");
}
