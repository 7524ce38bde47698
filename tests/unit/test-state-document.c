/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The text of the state file: what was written is read, and what has been damaged, in whatever
 * place, is refused or says the same.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/export.h"
#include "state/document.h"
#include "state/saved.h"
#include "util/macros.h"

/* Two clients; the epoch is the second one, so ids are from 1 << 32 up to what is below 3 << 32. */
#define LEG(more)                                                                                  \
        "{\"device\":\"/a\",\"how\":\"path\",\"state\":\"active\",\"sector\":8,\"count\":16,"      \
        "\"errors\":2,\"last_error\":5,\"block\":false,\"major\":8,\"minor\":1,"                   \
        "\"inode\":\"18446744073709551615\",\"capacity\":24,\"born_sec\":17," more                 \
        "\"born_nsec\":999999999,\"serial\":\"\",\"kept\":0}"
#define EXPORT(name, node, legs)                                                                   \
        "{\"name\":\"" name "\",\"node\":" node ",\"ctime\":1700000000,\"read_only\":true,"        \
        "\"shared\":false,\"cache\":\"none\",\"legs\":[" legs "]}"
#define CLIENT(name, node, status_node, exports)                                                   \
        "{\"name\":\"" name "\",\"uid\":1001,\"gid\":4294967294,\"pages\":256,\"node\":" node      \
        ",\"status_node\":" status_node ",\"exports\":[" exports "]}"
#define CONTENT(clients) "{\"boot\":\"b\",\"epoch\":2,\"clients\":[" clients "]}"

static const char good[] = CONTENT(CLIENT(
        "alice", "4294967296", "4294967297",
        EXPORT("vol", "8589934592", LEG("") "," LEG("")) "," EXPORT(
                "two", "12884901887", LEG(""))) "," CLIENT("bob", "4294967298", "4294967299", ""));

static json_t *parse(const char *text)
{
        json_error_t error;
        json_t *content = json_loads(text, 0, &error);

        if (!content)
                fail_msg("%s: %s", text, error.text);
        return content;
}

static void what_is_written_is_read(void **state)
{
        json_t *content = parse(good), *again = NULL;
        char *message = NULL;
        size_t length;
        char *text;

        text = document_print(content, &length);
        assert_non_null(text);
        assert_int_equal(strlen(text), length);
        assert_int_equal(document_parse(text, length, &again, &message), 0);
        assert_null(message);
        assert_true(json_equal(content, again));
        json_decref(again);
        json_decref(content);
        free(text);
}

/* Whatever became of the text: refused with a reason, or the same content. */
static void assert_safe(const json_t *content, const char *text, size_t length)
{
        json_t *again = NULL;
        char *message = NULL;
        int r;

        r = document_parse(text, length, &again, &message);
        if (r == 0)
                assert_true(json_equal(content, again));
        else
                assert_true(r == -EBADMSG || r == -EPROTO);
        assert_true((r == 0) == (message == NULL));
        json_decref(again);
        free(message);
}

static void a_part_of_it_is_refused(void **state)
{
        json_t *content = parse(good), *again = NULL;
        char *message = NULL;
        size_t length;
        char *text;

        text = document_print(content, &length);
        for (size_t n = 0; n + 1 < length; n++) {
                assert_int_equal(document_parse(text, n, &again, &message), -EBADMSG);
                assert_non_null(message);
                free(message);
        }
        assert_safe(content, text, length - 1);
        json_decref(content);
        free(text);
}

static void a_byte_that_changed_is_noticed(void **state)
{
        static const char others[] = "\n 09ae{}[]\",:\xff"; /* and a NUL */
        json_t *content = parse(good);
        size_t length;
        char *text;

        text = document_print(content, &length);
        for (size_t i = 0; i < length; i++) {
                char byte = text[i];

                for (unsigned int bit = 0; bit < 8; bit++) {
                        text[i] = (char)(byte ^ 1 << bit);
                        assert_safe(content, text, length);
                }
                for (size_t j = 0; j < sizeof(others); j++) {
                        text[i] = others[j];
                        assert_safe(content, text, length);
                }
                text[i] = byte;
        }
        json_decref(content);
        free(text);
}

static void what_is_no_document_is_refused_with_a_reason(void **state)
{
        static const struct {
                const char *text, *reason;
        } cases[] = {
                { "", "line 1" },
                { "[]", "format" },
                { "{}", "format" },
                { "{\"format\":\"1\"}", "format" },
                { "{\"format\":1,\"content\":{}}", "checksum" },
                { "{\"format\":1,\"checksum\":\"\"}", "content" },
                { "{\"format\":1,\"checksum\":\"\",\"content\":{}}", "does not fit" },
                { "{\"format\":1,\"checksum\":\"\",\"content\":{},\"more\":1}", "must have" },
                { "{\"format\":1,\"format\":1,\"checksum\":\"\",\"content\":{}}", "duplicate" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *content = NULL;
                char *message = NULL;

                assert_int_equal(
                        document_parse(cases[i].text, strlen(cases[i].text), &content, &message),
                        -EBADMSG);
                if (!strstr(message, cases[i].reason))
                        fail_msg("%s: %s", cases[i].text, message);
                free(message);
        }
}

static void another_format_is_another_versions(void **state)
{
        static const char *const texts[] = {
                "{\"format\":2,\"checksum\":\"\",\"content\":{}}",
                "{\"format\":0,\"checksum\":1}",
                "{\"format\":99,\"anything\":[]}",
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                json_t *content = NULL;
                char *message = NULL;

                assert_int_equal(document_parse(texts[i], strlen(texts[i]), &content, &message),
                                 -EPROTO);
                assert_non_null(strstr(message, "knows only format 1"));
                free(message);
        }
}

/* What a newer version has added within the format, wherever it is. */
static void what_is_not_known_is_left_out(void **state)
{
        json_t *content = parse(CONTENT(CLIENT("a", "4294967296", "4294967297",
                                               EXPORT("x", "4294967298", LEG("\"colour\":[1],")))));
        json_t *client, *before;
        char *message = NULL;
        struct saved saved;

        client = json_array_get(json_object_get(content, "clients"), 0);
        assert_int_equal(json_object_set_new(content, "more", json_pack("{s[]}", "boot")), 0);
        assert_int_equal(json_object_set_new(client, "pages_more", json_true()), 0);
        before = json_deep_copy(content);
        assert_int_equal(saved_read(content, &saved, &message), 0);
        assert_int_equal(saved.n_unknown, 3);
        assert_int_equal(saved.clients.n, 1);
        assert_true(json_equal(content, before));
        saved_clear(&saved);
        json_decref(before);
        json_decref(content);
}

static void a_content_becomes_structs(void **state)
{
        json_t *content = parse(good);
        const struct saved_export *export;
        const struct saved_client *client;
        const struct saved_leg *leg;
        char *message = NULL;
        struct saved saved;

        assert_int_equal(saved_read(content, &saved, &message), 0);
        assert_int_equal(saved.n_unknown, 0);
        assert_int_equal(saved.epoch, 2);
        assert_string_equal(saved.boot, "b");
        assert_int_equal(saved.clients.n, 2);
        client = saved.clients.items;
        assert_string_equal(client->name, "alice");
        assert_int_equal(client->uid, 1001);
        assert_int_equal(client->gid, UINT32_MAX - 1);
        assert_int_equal(client->pages, 256);
        assert_int_equal(client->node, INT64_C(1) << 32);
        assert_int_equal(client->exports.n, 2);
        export = client->exports.items;
        assert_true(export->read_only);
        assert_false(export->shared);
        assert_int_equal(export->cache, EXPORT_CACHE_NONE);
        assert_int_equal(export->legs.n, 2);
        leg = export->legs.items;
        assert_int_equal(leg->how, LEG_BY_PATH);
        assert_int_equal(leg->state, LEG_ACTIVE);
        assert_int_equal(leg->sector, 8);
        assert_int_equal(leg->born_nsec, 999999999);
        assert_string_equal(leg->inode, "18446744073709551615");
        saved_clear(&saved);
        json_decref(content);
}

static void a_content_that_cannot_be_true_is_refused_by_its_place(void **state)
{
        static const struct {
                const char *text, *reason;
        } cases[] = {
                { "{}", "boot is missing" },
                { "{\"boot\":\"b\",\"epoch\":0,\"clients\":[]}", "epoch must be" },
                { "{\"boot\":\"b\",\"epoch\":2147483648,\"clients\":[]}", "epoch must be" },
                { CONTENT("3"), "clients[0] must be an object" },
                { CONTENT(CLIENT(".alice", "4294967296", "4294967297", "")), "clients[0].name" },
                { CONTENT(CLIENT("a", "4294967296", "4294967297", "") "," CLIENT("a", "4294967298",
                                                                                 "4294967299", "")),
                  "clients[1].name is that of clients[0]" },
                { CONTENT(CLIENT("a", "4294967295", "4294967297", "")),
                  "4294967295 is of no epoch" },
                { CONTENT(CLIENT("a", "4294967296", "12884901888", "")), "of no epoch" },
                { CONTENT(CLIENT("a", "4294967296", "4294967296", "")), "there twice" },
                { CONTENT(CLIENT("a", "4294967296", "4294967297",
                                 EXPORT("x", "4294967297", LEG("")))),
                  "there twice" },
                { CONTENT(CLIENT("a", "4294967296", "4294967297",
                                 EXPORT("/", "4294967298", LEG("")))),
                  "clients[0].exports[0].name" },
                { CONTENT(CLIENT("a", "4294967296", "4294967297",
                                 EXPORT("x", "4294967298", LEG("")) "," EXPORT("x", "4294967299",
                                                                               LEG("")))),
                  "clients[0].exports[1].name is that of exports[0]" },
                { CONTENT(CLIENT("a", "4294967296", "4294967297", EXPORT("x", "4294967298", ""))),
                  "legs must be 1 to 64" },
                { CONTENT(CLIENT("a", "4294967296", "4294967297",
                                 EXPORT("x", "4294967298", LEG("\"colour\":1,") ",1"))),
                  "clients[0].exports[0].legs[1] must be an object" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *content = parse(cases[i].text);
                char *message = NULL;
                struct saved saved;

                assert_int_equal(saved_read(content, &saved, &message), -EBADMSG);
                if (!strstr(message, cases[i].reason))
                        fail_msg("%s: %s", cases[i].text, message);
                free(message);
                json_decref(content);
        }
}

/* One member of the first leg of the first export, replaced. */
static void a_leg_that_cannot_be_true_is_refused(void **state)
{
        static const struct {
                const char *member, *value, *reason;
        } cases[] = {
                { "state", "\"syncing\"", "must be one of active, failed" },
                { "how", "\"luck\"", "must be one of path, name, descriptor" },
                { "count", "0", "count must be" },
                { "count", "8", "is not that of the first leg" },
                { "sector", "9", "ends beyond its device" },
                { "sector", "9007199254740991", "ends beyond its device" },
                { "sector", "-1", "sector must be" },
                { "capacity", "23", "ends beyond its device" },
                { "inode", "\"\"", "inode is not a number" },
                { "inode", "\"1x\"", "inode is not a number" },
                { "inode", "\"-1\"", "inode is not a number" },
                { "inode", "17", "must be a string" },
                { "device", "\"\"", "device is empty" },
                { "device", "null", "device is missing" },
                { "born_nsec", "1000000000", "born_nsec must be" },
                { "last_error", "4096", "last_error must be" },
                { "block", "1", "must be true or false" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *content = parse(good);
                json_t *export = json_array_get(
                        json_object_get(json_array_get(json_object_get(content, "clients"), 0),
                                        "exports"),
                        0);
                json_t *leg = json_array_get(json_object_get(export, "legs"), 1);
                char *message = NULL;
                struct saved saved;

                assert_int_equal(
                        json_object_set_new(leg, cases[i].member,
                                            json_loads(cases[i].value, JSON_DECODE_ANY, NULL)),
                        0);
                assert_int_equal(saved_read(content, &saved, &message), -EBADMSG);
                if (!strstr(message, cases[i].reason) || !strstr(message, "legs[1]"))
                        fail_msg("%s %s: %s", cases[i].member, cases[i].value, message);
                free(message);
                json_decref(content);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_written_is_read),
                cmocka_unit_test(a_part_of_it_is_refused),
                cmocka_unit_test(a_byte_that_changed_is_noticed),
                cmocka_unit_test(what_is_no_document_is_refused_with_a_reason),
                cmocka_unit_test(another_format_is_another_versions),
                cmocka_unit_test(what_is_not_known_is_left_out),
                cmocka_unit_test(a_content_becomes_structs),
                cmocka_unit_test(a_content_that_cannot_be_true_is_refused_by_its_place),
                cmocka_unit_test(a_leg_that_cannot_be_true_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
