/*
 * fuzz_tlsrpt.c - records of _smtp._tls: what was read is written again, and read the same
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/tlsrpt_txt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tlsrpt_uris uris;
    if (tlsrpt_txt_read(slice_of(data, size), &uris) != TLSRPT_TXT_VALID)
        return 0;
    CHECK(uris.count <= TLSRPT_URIS_MAX);
    for (unsigned i = 0; i < uris.count; i++) {
        char text[TLSRPT_URI_MAX + 32];
        uint8_t rdata[TLSRPT_URI_MAX + 64];
        struct tlsrpt_uris again;
        size_t bytes = 0;
        int left = snprintf(text, sizeof(text), "v=TLSRPTv1;rua=%s", uris.uris[i].text);
        for (const char *at = text; left > 0; left -= 255, at += 255) {
            const size_t part = MIN((size_t)left, (size_t)255);
            rdata[bytes++] = (uint8_t)part;
            memcpy(rdata + bytes, at, part);
            bytes += part;
        }
        CHECK(tlsrpt_txt_read(slice_of(rdata, bytes), &again) == TLSRPT_TXT_VALID);
        CHECK(again.count == 1 && again.uris[0].scheme == uris.uris[i].scheme);
        CHECK(strcmp(again.uris[0].text, uris.uris[i].text) == 0);
    }
    return 0;
}
