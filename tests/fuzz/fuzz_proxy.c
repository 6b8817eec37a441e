/*
 * fuzz_proxy.c - PROXY headers: every prefix says "more", and no prefix says something else
 */
#include "core/check.h"
#include "mta/proxy.h"

enum {
    PREFIXES_MAX = 128, /* covers all of v1, and all of v2 but the TLVs */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice in = slice_of(data, size);
    struct proxy_header header, again;
    size_t used = 0, again_used = 0;
    const enum proxy_result result = proxy_parse(in, &header, &used);
    CHECK(result != PROXY_NEED_MORE || size < PROXY_HEADER_MAX);
    static const struct proxy_header nothing;
    if (result != PROXY_OK) {
        CHECK(used == 0);
        CHECK(memcmp(&header.source, &nothing.source, sizeof(header.source)) == 0);
    } else {
        CHECK(used > 0 && used <= size && used <= PROXY_HEADER_MAX);
        CHECK(header.version == 1 || header.version == 2);
        CHECK(header.version == 2 || (used <= PROXY_V1_MAX && data[used - 1] == '\n'));
        CHECK(!header.local || header.family == PROXY_FAMILY_NONE);
        if (header.family == PROXY_FAMILY_NONE)
            CHECK(memcmp(&header.source, &nothing.source, sizeof(header.source)) == 0);
        if (header.family == PROXY_FAMILY_IPV4)
            CHECK(header.source.address[10] == 0xff && header.source.address[11] == 0xff);
    }
    const size_t tried = MIN(size, PREFIXES_MAX);
    for (size_t i = 0; i < tried; i++) {
        const enum proxy_result early = proxy_parse(slice_of(data, i), &again, &again_used);
        if (result == PROXY_OK) {
            CHECK(early == (i < used ? PROXY_NEED_MORE : PROXY_OK));
            CHECK(i < used || again_used == used);
        } else if (result == PROXY_NEED_MORE) {
            CHECK(early == PROXY_NEED_MORE);
        } else {
            CHECK(early != PROXY_OK);
        }
    }
    return 0;
}
