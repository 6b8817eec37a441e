/*
 * fuzz_address.c - mailboxes, paths and domain names
 *
 * What parses obeys the limits, parses again from its own text, and has a canonical form that is
 * its own canonical form. A domain's ASCII form is a domain, and its own ASCII form.
 */
#include "core/check.h"
#include "mta/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_domain(struct slice domain)
{
    char ascii[ADDRESS_ASCII_DOMAIN_BYTES], again[ADDRESS_ASCII_DOMAIN_BYTES];
    const int r = address_domain_to_ascii(domain, ascii);
    if (r < 0)
        return;
    CHECK(strlen(ascii) == (size_t)r);
    CHECK(address_domain_valid(slice_of_string(ascii), false) ||
          address_literal_valid(slice_of_string(ascii)));
    CHECK(address_domain_to_ascii(slice_of_string(ascii), again) == r);
    CHECK(strcmp(ascii, again) == 0);
}

static void check_address(const struct address *address, unsigned allow)
{
    const struct slice text = address_text(address);
    struct address again;
    if (address->null) {
        CHECK(text.size == 0);
        return;
    }
    CHECK(text.size <= ADDRESS_MAX);
    CHECK(address->local.size > 0 && address->local.size <= ADDRESS_LOCAL_MAX);
    CHECK(address->domain.size <= ADDRESS_DOMAIN_MAX);
    CHECK(address->postmaster == (address->domain.size == 0));
    bool high = false;
    for (size_t i = 0; i < text.size; i++) {
        CHECK(text.data[i] >= ' ' && text.data[i] != 0x7f);
        CHECK(text.data[i] != ' ' || address->quoted);
        high |= text.data[i] > 0x7f;
    }
    CHECK(high == address->utf8);
    CHECK(!high || (allow & ADDRESS_ALLOW_UTF8) != 0);
    CHECK(address_utf8_valid(text));
    CHECK(address_parse(text, allow, &again) == ADDRESS_OK);
    CHECK(slice_equal(again.local, address->local));
    CHECK(slice_equal(again.domain, address->domain));

    uint8_t canonical[ADDRESS_MAX], twice[ADDRESS_MAX];
    const size_t size = address_canonical(address, canonical);
    CHECK(size > 0 && size <= text.size);
    CHECK(address_parse(slice_of(canonical, size), allow, &again) == ADDRESS_OK);
    CHECK(address_canonical(&again, twice) == size);
    CHECK(memcmp(canonical, twice, size) == 0);
    if (address->domain.size > 0)
        check_domain(address->domain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const unsigned allow = data[0] & 7;
    const struct slice in = slice_of(data + 1, size - 1);
    struct address address;
    size_t used = 0;
    if (address_parse_path(in, allow, &address, &used) == ADDRESS_OK) {
        CHECK(used >= 2 && used <= in.size);
        CHECK(in.data[0] == '<' && in.data[used - 1] == '>');
        check_address(&address, allow);
        /* What stands behind must not matter. */
        struct address same;
        size_t same_used = 0;
        CHECK(address_parse_path(slice_part(in, 0, used), allow, &same, &same_used) == ADDRESS_OK);
        CHECK(same_used == used);
        CHECK(slice_equal(same.local, address.local));
    }
    if (address_parse(in, allow, &address) == ADDRESS_OK) {
        CHECK(slice_equal(address_text(&address), in));
        check_address(&address, allow);
    }
    check_domain(in);
    return 0;
}
