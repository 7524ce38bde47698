/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <dmio/types.h>

#include "dmioctl/leg.h"
#include "util/macros.h"

static const struct {
        const char *name;
        unsigned int shift;
} units[] = {
        { "KiB", 10 },
        { "MiB", 20 },
        { "GiB", 30 },
        { "TiB", 40 },
};

static const char *const outcome_texts[] = {
        [LEG_OK] = "is fine",
        [LEG_E_EMPTY] = "is empty",
        [LEG_E_NEGATIVE] = "is negative",
        [LEG_E_NUMBER] = "is not a number",
        [LEG_E_UNIT] = "has an unknown unit (known are KiB, MiB, GiB and TiB)",
        [LEG_E_TIME] = "has an unknown unit (known are us, ms and s)",
        [LEG_E_MULTIPLE] = "is not a whole number of blocks",
        [LEG_E_RANGE] = "is too large",
        [LEG_E_COLON] = "is missing: there is no ':' before it",
        [LEG_E_PLUS] = "is missing: there is no '+' before it",
};

const char *leg_outcome_text(int outcome)
{
        if (outcome < 0 || (size_t)outcome >= ARRAY_SIZE(outcome_texts))
                return "is wrong";
        return outcome_texts[outcome];
}

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

/* The text need not end behind the number: @length says where it does. */
static int parse(const char *text, size_t length, uint64_t unit, uint64_t *ret)
{
        uint64_t value = 0;
        size_t i = 0;

        if (length == 0)
                return LEG_E_EMPTY;
        if (text[0] == '-')
                return LEG_E_NEGATIVE;
        if (!is_digit(text[0]))
                return LEG_E_NUMBER;

        for (; i < length && is_digit(text[i]); i++)
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
                        return LEG_E_RANGE;

        if (i < length) {
                size_t k;

                for (k = 0; k < ARRAY_SIZE(units); k++)
                        if (length - i == strlen(units[k].name) &&
                            memcmp(text + i, units[k].name, length - i) == 0)
                                break;
                if (k == ARRAY_SIZE(units))
                        return LEG_E_UNIT;
                if (value > UINT64_MAX >> units[k].shift)
                        return LEG_E_RANGE;
                value <<= units[k].shift;
                if (value % unit != 0)
                        return LEG_E_MULTIPLE;
                value /= unit;
        }
        if (value >= LEG_MAX)
                return LEG_E_RANGE;

        *ret = value;
        return LEG_OK;
}

int size_parse(const char *text, uint64_t unit, uint64_t *ret)
{
        return parse(text, strlen(text), unit, ret);
}

int time_parse(const char *text, uint64_t *ret)
{
        static const struct {
                const char *name;
                uint64_t usec;
        } time_units[] = { { "us", 1 }, { "ms", 1000 }, { "s", 1000000 }, { "", 1000000 } };
        size_t digits = strspn(text, "0123456789");
        uint64_t value;
        int r;

        r = parse(text, digits > 0 ? digits : strlen(text), 1, &value);
        if (r != LEG_OK)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(time_units); i++) {
                if (strcmp(text + digits, time_units[i].name) != 0)
                        continue;
                if (value > (LEG_MAX - 1) / time_units[i].usec)
                        return LEG_E_RANGE;
                *ret = value * time_units[i].usec;
                return LEG_OK;
        }
        return LEG_E_TIME;
}

int leg_parse(const char *text, struct leg *ret, const char **ret_part)
{
        const char *colon = strrchr(text, ':');
        const char *plus = colon ? strchr(colon, '+') : NULL;
        uint64_t sector, count;
        char *device;
        int r;

        *ret_part = "DEVICE";
        if (!text[0] || colon == text)
                return LEG_E_EMPTY;

        *ret_part = "SECTOR";
        if (!colon)
                return LEG_E_COLON;
        r = parse(colon + 1, plus ? (size_t)(plus - colon - 1) : strlen(colon + 1),
                  DMIO_SECTOR_SIZE, &sector);
        if (r != LEG_OK)
                return r;

        *ret_part = "COUNT";
        if (!plus)
                return LEG_E_PLUS;
        r = size_parse(plus + 1, DMIO_SECTOR_SIZE, &count);
        if (r != LEG_OK)
                return r;

        *ret_part = "SECTOR+COUNT";
        if (sector + count >= LEG_MAX)
                return LEG_E_RANGE;

        device = strndup(text, (size_t)(colon - text));
        if (!device)
                return -ENOMEM;

        *ret = (struct leg){ .text = text, .device = device, .sector = sector, .count = count };
        return LEG_OK;
}

void leg_deinit(struct leg *leg)
{
        free(leg->device);
        *leg = (struct leg){};
}
