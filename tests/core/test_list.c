/*
 * test_list.c - nodes in order, and nodes that are in no list
 */
#include "core/list.h"

#include <criterion/criterion.h>

struct item {
    struct list node;
    char letter;
};

static struct list head;
static struct list other;
static struct item items[5];

static void make_items(void)
{
    list_init(&head);
    list_init(&other);
    for (unsigned i = 0; i < ARRAY_COUNT(items); i++) {
        items[i].letter = (char)('a' + i);
        list_init(&items[i].node);
    }
}

TestSuite(list, .init = make_items);

static void expect(struct list *list, const char *letters)
{
    list_each (node, list) {
        cr_assert_eq(container_of(node, struct item, node)->letter, *letters);
        cr_assert_eq(node->next->previous, node);
        letters++;
    }
    cr_assert_eq(*letters, '\0');
}

Test(list, nothing_comes_out_of_an_empty_list)
{
    cr_assert_eq(list_pop(&head), NULL);
    cr_assert(list_empty(&head));
    list_append(&head, &other);
    cr_assert(list_empty(&head));
}

Test(list, removing_twice_is_harmless)
{
    list_push(&head, &items[0].node);
    list_push(&head, &items[1].node);
    list_remove(&items[0].node);
    cr_assert(list_empty(&items[0].node));
    list_remove(&items[0].node);
    expect(&head, "b");
}

Test(list, order)
{
    list_push(&head, &items[1].node);
    list_push(&head, &items[3].node);
    list_push_front(&head, &items[0].node);
    list_insert_before(&items[3].node, &items[2].node);
    expect(&head, "abcd");
    cr_assert_eq(list_pop(&head), &items[0].node);
    cr_assert(list_empty(&items[0].node));
    expect(&head, "bcd");
}

Test(list, appending_moves_all_nodes)
{
    list_push(&head, &items[0].node);
    list_push(&other, &items[1].node);
    list_push(&other, &items[2].node);
    list_append(&head, &other);
    expect(&head, "abc");
    expect(&other, "");
    list_append(&other, &head);
    expect(&other, "abc");
    expect(&head, "");
}

Test(list, the_body_of_a_safe_loop_may_remove)
{
    for (unsigned i = 0; i < ARRAY_COUNT(items); i++)
        list_push(&head, &items[i].node);
    list_each_safe(node, &head)
    {
        if (container_of(node, struct item, node)->letter % 2 == 1)
            list_remove(node);
    }
    expect(&head, "bd");
}
