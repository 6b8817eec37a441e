/*
 * sim_disk.c - the simulated disk: pages in the cache, sectors on the medium, and what a crash
 * makes
 *
 *   write --sim_inode_write--> pending --sim_inode_sync--> on the medium
 *                                 |--failed sync--> doomed (in the cache only, counts as clean)
 *                                 `--power cut--> kept, lost or torn
 *   name  --open, mkdir, unlink, rename--> pending --sync of its directory--> on the medium
 *
 * Each file has two contents, cache and medium, in pages of 4 KiB made when first written, and the
 * list of writes that are in the first and not in the second. Each directory has two lists of names
 * likewise; the changes between them are kept in one list for the disk, in their order. When bytes
 * become durable, older pending writes lose that range: they must not come back over newer ones.
 */
#include "tests/sim/sim_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    PAGE_BYTES = 4096,
    ZEROS_BYTES = 1 << 20,
    SECTOR_BYTES = 512,
    FDS_MAX = 4096,
    FD_BIT = 1 << 29,
    FD_GENERATIONS = 1 << 12,
};

struct write {
    struct list node;
    uint64_t mark;
    uint64_t offset;
    uint64_t bytes;
    bool doomed;
    bool truncate; /* the file becomes empty */
    const uint8_t *data;
    uint8_t own[];
};

/* Stands for each page, and each write, that holds nothing else: segments begin with them. */
static uint8_t zeros[ZEROS_BYTES];

struct entry {
    char name[RING_NAME_MAX];
    struct sim_inode *inode;
};

struct entries {
    struct entry *list; /* in the order of their making, which readdir does not promise */
    uint32_t count, size;
};

struct content {
    uint8_t **pages;
    uint64_t pages_size;
    uint64_t bytes;
};

struct sim_inode {
    struct list node; /* of the disk */
    bool directory;
    unsigned mode;
    unsigned opens;
    unsigned links; /* names in the cache */
    struct content cache, medium;
    struct list writes;
    struct entries names, names_medium;
    bool reached;
};

/* name in directory becomes inode (NULL: nothing); for a rename, another name goes away with it. */
struct change {
    struct list node;
    uint64_t mark;
    struct sim_inode *directory, *from_directory;
    struct sim_inode *inode;
    char name[RING_NAME_MAX], from_name[RING_NAME_MAX];
};

struct descriptor {
    struct sim_inode *inode; /* NULL: free */
    uint32_t generation;
    int flags;
};

struct sim_disk {
    struct sim *sim;
    uint64_t capacity; /* bytes; 0: no limit */
    uint64_t used;
    uint64_t marks; /* counts changes of anything */
    struct list inodes;
    struct list changes;
    struct sim_inode *root;
    struct descriptor fds[FDS_MAX];
};

/* ---- contents ---- */

static const uint8_t *content_page(const struct content *c, uint64_t page)
{
    return page < c->pages_size ? c->pages[page] : NULL;
}

static uint8_t **content_place(struct content *c, uint64_t page)
{
    if (page >= c->pages_size) {
        uint64_t size = MAX(2 * c->pages_size, page + 1);
        c->pages = sim_more(c->pages, size * sizeof(*c->pages));
        memset(c->pages + c->pages_size, 0, (size - c->pages_size) * sizeof(*c->pages));
        c->pages_size = size;
    }
    return &c->pages[page];
}

static uint8_t *content_page_made(struct content *c, uint64_t page)
{
    uint8_t **place = content_place(c, page);
    if (*place == NULL || *place == zeros)
        *place = sim_take(PAGE_BYTES);
    return *place;
}

static void page_free(uint8_t *page)
{
    if (page != zeros)
        free(page);
}

static bool is_zero(const uint8_t *from, uint64_t bytes)
{
    return bytes == 0 || (from[0] == 0 && memcmp(from, from + 1, bytes - 1) == 0);
}

static void content_put(struct content *c, uint64_t offset, const uint8_t *from, uint64_t bytes)
{
    c->bytes = MAX(c->bytes, offset + bytes);
    while (bytes > 0) {
        uint64_t in = offset % PAGE_BYTES;
        uint64_t run = MIN(bytes, PAGE_BYTES - in);
        uint8_t **place = content_place(c, offset / PAGE_BYTES);
        if ((run == PAGE_BYTES || *place == NULL || *place == zeros) && is_zero(from, run)) {
            page_free(*place);
            *place = zeros;
        } else {
            memcpy(content_page_made(c, offset / PAGE_BYTES) + in, from, run);
        }
        offset += run;
        from += run;
        bytes -= run;
    }
}

static void content_get(const struct content *c, uint64_t offset, uint8_t *to, uint64_t bytes)
{
    while (bytes > 0) {
        uint64_t in = offset % PAGE_BYTES;
        uint64_t run = MIN(bytes, PAGE_BYTES - in);
        const uint8_t *page = content_page(c, offset / PAGE_BYTES);
        if (page != NULL)
            memcpy(to, page + in, run);
        else
            memset(to, 0, run);
        offset += run;
        to += run;
        bytes -= run;
    }
}

static void content_empty(struct content *c)
{
    for (uint64_t i = 0; i < c->pages_size; i++)
        page_free(c->pages[i]);
    free(c->pages);
    *c = (struct content) { 0 };
}

static uint64_t content_used(const struct content *c)
{
    uint64_t used = 0;
    for (uint64_t i = 0; i < c->pages_size; i++)
        used += c->pages[i] != NULL ? PAGE_BYTES : 0;
    return used;
}

/* The same bytes in both, over this range. */
static void content_copy(struct content *to, struct content *from, uint64_t offset, uint64_t bytes)
{
    uint8_t part[PAGE_BYTES];
    uint64_t end = MIN(offset + bytes, from->bytes);
    while (offset < end) {
        uint64_t run = MIN(end - offset, PAGE_BYTES - offset % PAGE_BYTES);
        if (content_page(from, offset / PAGE_BYTES) != NULL ||
            content_page(to, offset / PAGE_BYTES) != NULL) {
            content_get(from, offset, part, run);
            content_put(to, offset, part, run);
        }
        offset += run;
        to->bytes = MAX(to->bytes, offset);
    }
}

/* ---- names ---- */

static struct entry *entries_find(struct entries *e, const char *name)
{
    for (uint32_t i = 0; i < e->count; i++)
        if (strcmp(e->list[i].name, name) == 0)
            return &e->list[i];
    return NULL;
}

static void entries_set(struct entries *e, const char *name, struct sim_inode *inode)
{
    struct entry *entry = entries_find(e, name);
    if (inode == NULL) {
        if (entry != NULL)
            memmove(entry, entry + 1,
                    (size_t)(e->list + e->count-- - (entry + 1)) * sizeof(*entry));
        return;
    }
    if (entry == NULL) {
        if (e->count == e->size) {
            e->size = MAX(2 * e->size, 8);
            e->list = sim_more(e->list, e->size * sizeof(*e->list));
        }
        entry = &e->list[e->count++];
        memset(entry, 0, sizeof(*entry));
        memcpy(entry->name, name, strlen(name) + 1);
    }
    entry->inode = inode;
}

static void change_apply(const struct change *c, bool medium)
{
    struct entries *to = medium ? &c->directory->names_medium : &c->directory->names;
    if (c->from_directory != NULL) {
        struct entries *from =
            medium ? &c->from_directory->names_medium : &c->from_directory->names;
        struct entry *entry = entries_find(from, c->from_name);
        if (entry != NULL && entry->inode == c->inode)
            entries_set(from, c->from_name, NULL);
    }
    entries_set(to, c->name, c->inode);
}

static struct change *change_new(struct sim_disk *disk, struct sim_inode *directory,
                                 const char *name, struct sim_inode *inode)
{
    struct change *c = sim_take(sizeof(*c));
    c->mark = ++disk->marks;
    c->directory = directory;
    c->inode = inode;
    memcpy(c->name, name, strlen(name) + 1);
    list_push(&disk->changes, &c->node);
    return c;
}

static struct sim_inode *inode_new(struct sim_disk *disk, bool directory, unsigned mode)
{
    struct sim_inode *inode = sim_take(sizeof(*inode));
    inode->directory = directory;
    inode->mode = mode;
    list_init(&inode->writes);
    list_push(&disk->inodes, &inode->node);
    return inode;
}

static void write_free(struct write *w)
{
    list_remove(&w->node);
    free(w);
}

static void inode_free(struct sim_inode *inode)
{
    list_each_safe(node, &inode->writes) write_free(container_of(node, struct write, node));
    content_empty(&inode->cache);
    content_empty(&inode->medium);
    free(inode->names.list);
    free(inode->names_medium.list);
    list_remove(&inode->node);
    free(inode);
}

/* The directory that path's last part is in, and that part. */
static int path_parent(struct sim_disk *disk, const char *path, struct sim_inode **parent,
                       char name[static RING_NAME_MAX])
{
    struct sim_inode *at = disk->root;
    name[0] = 0;
    for (;;) {
        while (*path == '/')
            path++;
        if (*path == 0)
            break;
        size_t length = strcspn(path, "/");
        if (length >= RING_NAME_MAX)
            return -ENAMETOOLONG;
        if (name[0] != 0) {
            struct entry *entry = entries_find(&at->names, name);
            if (entry == NULL)
                return -ENOENT;
            if (!entry->inode->directory)
                return -ENOTDIR;
            at = entry->inode;
        }
        memcpy(name, path, length);
        name[length] = 0;
        if (strcmp(name, ".") == 0)
            name[0] = 0;
        path += length;
    }
    *parent = at;
    return 0;
}

static int path_find(struct sim_disk *disk, const char *path, struct sim_inode **inode)
{
    struct sim_inode *parent;
    char name[RING_NAME_MAX];
    int r = path_parent(disk, path, &parent, name);
    if (r < 0)
        return r;
    if (name[0] == 0) {
        *inode = parent;
        return 0;
    }
    struct entry *entry = entries_find(&parent->names, name);
    if (entry == NULL)
        return -ENOENT;
    *inode = entry->inode;
    return 0;
}

static void inode_unlinked(struct sim_disk *disk, struct sim_inode *inode)
{
    CHECK(inode->links > 0);
    inode->links--;
    if (inode->links == 0 && inode->opens == 0)
        disk->used -= content_used(&inode->cache);
}

void sim_inode_open(struct sim_inode *inode)
{
    inode->opens++;
}

void sim_inode_close(struct sim_disk *disk, struct sim_inode *inode)
{
    CHECK(inode->opens > 0);
    inode->opens--;
    if (inode->links == 0 && inode->opens == 0)
        disk->used -= content_used(&inode->cache);
}

bool sim_inode_directory(const struct sim_inode *inode)
{
    return inode->directory;
}

uint64_t sim_inode_size(const struct sim_inode *inode)
{
    return inode->cache.bytes;
}

uint64_t sim_disk_mark(const struct sim_disk *disk)
{
    return disk->marks;
}

uint64_t sim_disk_room(const struct sim_disk *disk)
{
    if (disk->capacity == 0)
        return UINT64_C(1) << 40;
    return disk->capacity > disk->used ? disk->capacity - disk->used : 0;
}

static void inode_truncate(struct sim_disk *disk, struct sim_inode *inode)
{
    if (inode->cache.bytes == 0)
        return;
    disk->used -= content_used(&inode->cache);
    content_empty(&inode->cache);
    list_each_safe(node, &inode->writes) write_free(container_of(node, struct write, node));
    struct write *w = sim_take(sizeof(*w));
    w->mark = ++disk->marks;
    w->truncate = true;
    list_push(&inode->writes, &w->node);
}

int sim_disk_open(struct sim_disk *disk, const char *path, int flags, unsigned mode,
                  struct sim_inode **inode)
{
    CHECK((flags & O_APPEND) == 0); /* offsets are always given */
    struct sim_inode *found = NULL;
    int r = path_find(disk, path, &found);
    if (r == -ENOENT && (flags & O_CREAT)) {
        struct sim_inode *parent;
        char name[RING_NAME_MAX];
        r = path_parent(disk, path, &parent, name);
        if (r < 0)
            return r;
        found = inode_new(disk, false, mode);
        found->links = 1;
        change_apply(change_new(disk, parent, name, found), false);
    } else if (r < 0) {
        return r;
    } else if ((flags & O_CREAT) && (flags & O_EXCL)) {
        return -EEXIST;
    }
    if (!found->directory && (flags & O_DIRECTORY))
        return -ENOTDIR;
    if (found->directory && (flags & O_ACCMODE) != O_RDONLY)
        return -EISDIR;
    if (flags & O_TRUNC)
        inode_truncate(disk, found);
    sim_inode_open(found);
    *inode = found;
    return 0;
}

int sim_disk_mkdir(struct sim_disk *disk, const char *path, unsigned mode)
{
    struct sim_inode *parent;
    char name[RING_NAME_MAX];
    int r = path_parent(disk, path, &parent, name);
    if (r < 0)
        return r;
    if (name[0] == 0 || entries_find(&parent->names, name) != NULL)
        return -EEXIST;
    struct sim_inode *inode = inode_new(disk, true, mode);
    inode->links = 1;
    change_apply(change_new(disk, parent, name, inode), false);
    return 0;
}

int sim_disk_unlink(struct sim_disk *disk, const char *path)
{
    struct sim_inode *parent;
    char name[RING_NAME_MAX];
    int r = path_parent(disk, path, &parent, name);
    if (r < 0)
        return r;
    struct entry *entry = name[0] != 0 ? entries_find(&parent->names, name) : NULL;
    if (entry == NULL)
        return name[0] != 0 ? -ENOENT : -EISDIR;
    struct sim_inode *inode = entry->inode;
    if (inode->directory)
        return -EISDIR;
    change_apply(change_new(disk, parent, name, NULL), false);
    inode_unlinked(disk, inode);
    return 0;
}

int sim_disk_rename(struct sim_disk *disk, const char *from, const char *to)
{
    struct sim_inode *from_parent = NULL, *to_parent = NULL;
    char from_name[RING_NAME_MAX], to_name[RING_NAME_MAX];
    int r = path_parent(disk, from, &from_parent, from_name);
    if (r == 0)
        r = path_parent(disk, to, &to_parent, to_name);
    if (r < 0)
        return r;
    struct entry *entry = entries_find(&from_parent->names, from_name);
    if (entry == NULL)
        return -ENOENT;
    struct entry *over = entries_find(&to_parent->names, to_name);
    if (over != NULL && over->inode == entry->inode)
        return 0;
    if (over != NULL && over->inode->directory)
        return -EISDIR; /* replacing an empty directory: nobody of ours does */
    struct change *c = change_new(disk, to_parent, to_name, entry->inode);
    c->from_directory = from_parent;
    memcpy(c->from_name, from_name, sizeof(c->from_name));
    struct sim_inode *replaced = over != NULL ? over->inode : NULL;
    change_apply(c, false);
    if (replaced != NULL)
        inode_unlinked(disk, replaced);
    return 0;
}

int sim_disk_list(struct sim_disk *disk, const char *path,
                  void (*each)(void *argument, const char *name), void *argument)
{
    struct sim_inode *inode;
    int r = path_find(disk, path, &inode);
    if (r < 0)
        return r;
    if (!inode->directory)
        return -ENOTDIR;
    /* Each call in another order; each() may change the directory. */
    uint32_t count = inode->names.count;
    struct entry *copy = sim_take(count * sizeof(*copy));
    if (count > 0)
        memcpy(copy, inode->names.list, count * sizeof(*copy));
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)random_below(&disk->sim->random, i);
        struct entry swap = copy[i - 1];
        copy[i - 1] = copy[j];
        copy[j] = swap;
    }
    for (uint32_t i = 0; i < count; i++)
        each(argument, copy[i].name);
    free(copy);
    return 0;
}

/* ---- bytes ---- */

int64_t sim_inode_read(struct sim_inode *inode, void *to, uint64_t bytes, uint64_t offset)
{
    if (inode->directory)
        return -EISDIR;
    if (offset >= inode->cache.bytes)
        return 0;
    bytes = MIN(bytes, inode->cache.bytes - offset);
    content_get(&inode->cache, offset, to, bytes);
    return (int64_t)bytes;
}

static struct write *write_new(uint64_t mark, uint64_t offset, const void *from, uint64_t bytes)
{
    const bool zero = bytes <= sizeof(zeros) && is_zero(from, bytes);
    struct write *w = sim_more(NULL, sizeof(*w) + (zero ? 0 : bytes));
    *w = (struct write) { .mark = mark, .offset = offset, .bytes = bytes };
    w->data = zero ? zeros : w->own;
    if (!zero)
        memcpy(w->own, from, bytes);
    return w;
}

/* Pending writes older than mark lose this range. */
static void writes_carve(struct sim_inode *inode, uint64_t mark, uint64_t offset, uint64_t bytes)
{
    uint64_t end = offset + bytes;
    list_each_safe(node, &inode->writes)
    {
        struct write *w = container_of(node, struct write, node);
        uint64_t w_end = w->offset + w->bytes;
        if (w->truncate || w->mark >= mark || w_end <= offset || w->offset >= end)
            continue;
        if (w_end > end) {
            struct write *right = write_new(w->mark, end, w->data + (end - w->offset), w_end - end);
            right->doomed = w->doomed;
            list_push_front(&w->node, &right->node);
        }
        if (w->offset < offset)
            w->bytes = offset - w->offset;
        else
            write_free(w);
    }
}

static uint64_t write_room(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset,
                           uint64_t bytes)
{
    uint64_t room = sim_disk_room(disk);
    uint64_t fits = 0;
    while (fits < bytes) {
        if (content_page(&inode->cache, (offset + fits) / PAGE_BYTES) == NULL) {
            if (room < PAGE_BYTES)
                break;
            room -= PAGE_BYTES;
            disk->used += PAGE_BYTES;
        }
        fits += MIN(bytes - fits, PAGE_BYTES - (offset + fits) % PAGE_BYTES);
    }
    return fits;
}

int64_t sim_inode_write(struct sim_disk *disk, struct sim_inode *inode, const void *from,
                        uint64_t bytes, uint64_t offset, bool durable, bool direct, bool doomed)
{
    if (inode->directory)
        return -EISDIR;
    uint64_t fits = write_room(disk, inode, offset, bytes);
    if (fits == 0)
        return bytes == 0 ? 0 : -ENOSPC;
    content_put(&inode->cache, offset, from, fits);
    uint64_t mark = ++disk->marks;
    if (durable && !doomed) {
        uint64_t low = direct ? offset : offset / PAGE_BYTES * PAGE_BYTES;
        uint64_t high = offset + fits;
        if (!direct)
            high = (high + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
        /* An older truncation is part of the metadata that this size depends on. */
        list_each_safe(node, &inode->writes)
        {
            struct write *w = container_of(node, struct write, node);
            if (w->truncate) {
                content_empty(&inode->medium);
                write_free(w);
            }
        }
        content_copy(&inode->medium, &inode->cache, low, high - low);
        writes_carve(inode, mark, low, high - low);
    } else {
        struct write *w = write_new(mark, offset, from, fits);
        w->doomed = doomed;
        list_push(&inode->writes, &w->node);
    }
    return (int64_t)fits;
}

static void write_to_medium(struct sim_inode *inode, struct write *w)
{
    if (w->truncate)
        content_empty(&inode->medium);
    else
        content_put(&inode->medium, w->offset, w->data, w->bytes);
}

static void names_sync(struct sim_disk *disk, struct sim_inode *directory, uint64_t mark)
{
    list_each_safe(node, &disk->changes)
    {
        struct change *c = container_of(node, struct change, node);
        if (c->mark > mark || (c->directory != directory && c->from_directory != directory))
            continue;
        change_apply(c, true);
        list_remove(&c->node);
        free(c);
    }
}

void sim_inode_sync(struct sim_disk *disk, struct sim_inode *inode, uint64_t mark, bool failed)
{
    if (inode->directory) {
        if (!failed)
            names_sync(disk, inode, mark);
        return;
    }
    /* Sometimes the clean pages are dropped at once, and reads show what the medium has. */
    bool dropped = failed && random_below(&disk->sim->random, 4) == 0;
    list_each_safe(node, &inode->writes)
    {
        struct write *w = container_of(node, struct write, node);
        if (w->mark > mark || w->doomed)
            continue;
        if (failed && !w->truncate) {
            w->doomed = true;
            if (dropped) {
                uint8_t *old = sim_take(w->bytes);
                content_get(&inode->medium, w->offset, old, w->bytes);
                content_put(&inode->cache, w->offset, old, w->bytes);
                free(old);
            }
        } else if (!failed) {
            write_to_medium(inode, w);
            uint64_t w_mark = w->mark, offset = w->offset, bytes = w->bytes;
            bool truncate = w->truncate;
            list_remove(&w->node);
            free(w);
            if (!truncate)
                writes_carve(inode, w_mark, offset, bytes);
        }
    }
}

/* ---- descriptors ---- */

int sim_fd_new(struct sim_disk *disk, struct sim_inode *inode, int flags)
{
    uint32_t i = 0;
    while (i < FDS_MAX && disk->fds[i].inode != NULL)
        i++;
    if (i == FDS_MAX)
        return -EMFILE;
    disk->fds[i].inode = inode;
    disk->fds[i].flags = flags;
    return (int)((uint32_t)FD_BIT | (disk->fds[i].generation % FD_GENERATIONS) << 16 | i);
}

static struct descriptor *descriptor(struct sim_disk *disk, int fd)
{
    CHECK(fd >= 0 && (fd & FD_BIT));
    struct descriptor *d = &disk->fds[fd & 0xffff];
    CHECK((fd & 0xffff) < FDS_MAX);
    CHECK(d->inode != NULL);
    CHECK(d->generation % FD_GENERATIONS == ((uint32_t)fd >> 16 & (FD_GENERATIONS - 1)));
    return d;
}

struct sim_inode *sim_fd(struct sim_disk *disk, int fd, int *flags)
{
    struct descriptor *d = descriptor(disk, fd);
    *flags = d->flags;
    return d->inode;
}

void sim_fd_close(struct sim_disk *disk, int fd)
{
    struct descriptor *d = descriptor(disk, fd);
    sim_inode_close(disk, d->inode);
    d->inode = NULL;
    d->generation++;
}

/* ---- crashes ---- */

static void write_tear(struct sim *sim, struct sim_inode *inode, const struct write *w)
{
    uint64_t how = random_below(&sim->random, 3); /* a beginning, an end, or any sectors */
    uint64_t end = w->offset + w->bytes;
    uint64_t cut = sim_between(sim, w->offset, end);
    for (uint64_t at = w->offset; at < end;) {
        uint64_t run = MIN(end - at, SECTOR_BYTES - at % SECTOR_BYTES);
        bool kept = how == 0 ? at + run <= cut : how == 1 ? at >= cut : sim_chance(sim, 500'000);
        if (kept)
            content_put(&inode->medium, at, w->data + (at - w->offset), run);
        at += run;
    }
}

static void inode_power_cut(struct sim *sim, struct sim_inode *inode, uint64_t mood)
{
    if (list_empty(&inode->writes))
        return; /* both are the same */
    list_each_safe(node, &inode->writes)
    {
        struct write *w = container_of(node, struct write, node);
        /* mood 0: nothing was written back; 1: nearly all; 2: each write has its own luck */
        uint64_t luck = mood == 2 ? random_below(&sim->random, 3) : mood;
        if (w->doomed && luck == 1)
            luck = random_below(&sim->random, 3);
        if (luck == 1)
            write_to_medium(inode, w);
        else if (luck == 2 && !w->truncate)
            write_tear(sim, inode, w);
        else if (random_below(&sim->random, 8) == 0 && !w->truncate)
            inode->medium.bytes = MAX(inode->medium.bytes, w->offset + w->bytes); /* zeros */
        write_free(w);
    }
    content_empty(&inode->cache);
    content_copy(&inode->cache, &inode->medium, 0, inode->medium.bytes);
}

static void names_power_cut(struct sim_disk *disk)
{
    /* A journal keeps the first ones; a file system without keeps any. */
    bool journal = sim_chance(disk->sim, 500'000);
    bool kept = true;
    uint64_t odds = sim_between(disk->sim, 0, 1'000'000);
    list_each_safe(node, &disk->changes)
    {
        struct change *c = container_of(node, struct change, node);
        kept = sim_chance(disk->sim, (uint32_t)odds) && (kept || !journal);
        if (kept)
            change_apply(c, true);
        list_remove(&c->node);
        free(c);
    }
}

static void names_reach(struct sim_inode *directory)
{
    struct entries *names = &directory->names, *medium = &directory->names_medium;
    directory->reached = true;
    names->count = 0;
    for (uint32_t i = 0; i < medium->count; i++) {
        entries_set(names, medium->list[i].name, medium->list[i].inode);
        struct sim_inode *inode = medium->list[i].inode;
        inode->links++;
        if (inode->directory && !inode->reached)
            names_reach(inode);
        inode->reached = true;
    }
}

void sim_disk_crash(struct sim_disk *disk, bool power)
{
    for (uint32_t i = 0; i < FDS_MAX; i++)
        if (disk->fds[i].inode != NULL) {
            disk->fds[i].inode = NULL;
            disk->fds[i].generation++;
        }
    uint64_t mood = random_below(&disk->sim->random, 4);
    list_each_safe(node, &disk->inodes)
    {
        struct sim_inode *inode = container_of(node, struct sim_inode, node);
        if (inode->opens > 0 && inode->links == 0)
            disk->used -= content_used(&inode->cache);
        inode->opens = 0;
        if (power)
            inode_power_cut(disk->sim, inode, MIN(mood, 2));
    }
    if (!power)
        return;
    names_power_cut(disk);
    list_each (node, &disk->inodes) {
        struct sim_inode *inode = container_of(node, struct sim_inode, node);
        inode->links = 0;
        inode->reached = false;
    }
    names_reach(disk->root);
    disk->used = 0;
    list_each_safe(node, &disk->inodes)
    {
        struct sim_inode *inode = container_of(node, struct sim_inode, node);
        if (!inode->reached)
            inode_free(inode);
        else
            disk->used += content_used(&inode->cache);
    }
}

int sim_corrupt(struct sim *sim, unsigned machine, const char *path, uint64_t offset,
                uint32_t bytes)
{
    struct sim_inode *inode;
    int r = path_find(sim->machines[machine].disk, path, &inode);
    if (r < 0)
        return r;
    if (inode->directory || offset + bytes > inode->cache.bytes)
        return -EINVAL;
    for (uint64_t at = offset; at < offset + bytes; at++) {
        uint8_t flip = (uint8_t)(1 << random_below(&sim->random, 8));
        content_page_made(&inode->cache, at / PAGE_BYTES)[at % PAGE_BYTES] ^= flip;
        if (content_page(&inode->medium, at / PAGE_BYTES) != NULL)
            content_page_made(&inode->medium, at / PAGE_BYTES)[at % PAGE_BYTES] ^= flip;
    }
    return 0;
}

/* ---- life ---- */

void sim_disk_bytes(struct sim *sim, unsigned machine, uint64_t bytes)
{
    sim->machines[machine].disk->capacity = bytes;
}

uint64_t sim_disk_used(const struct sim *sim, unsigned machine)
{
    return sim->machines[machine].disk->used;
}

struct sim_disk *sim_disk_new(struct sim *sim, uint64_t capacity)
{
    struct sim_disk *disk = sim_take(sizeof(*disk));
    disk->sim = sim;
    disk->capacity = capacity;
    list_init(&disk->inodes);
    list_init(&disk->changes);
    disk->root = inode_new(disk, true, 0755);
    disk->root->links = 1;
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    list_each_safe(node, &disk->inodes) inode_free(container_of(node, struct sim_inode, node));
    list_each_safe(node, &disk->changes)
    {
        list_remove(node);
        free(container_of(node, struct change, node));
    }
    free(disk);
}
