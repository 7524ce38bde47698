/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/errors.h"
#include "control/fields.h"
#include "util/cleanup.h"

/* Where we are, from the inside out; spelled out only when something is wrong there. */
struct place {
        const struct place *parent;
        const char *name;
        size_t index; /* of an array; SIZE_MAX for none */
};

static void place_print(FILE *stream, const struct place *place)
{
        if (place->parent) {
                place_print(stream, place->parent);
                if (place->name)
                        fputc('.', stream);
        }
        if (place->name)
                fputs(place->name, stream);
        if (place->index != SIZE_MAX)
                fprintf(stream, "[%zu]", place->index);
}

static json_t *wrong(const struct place *place, const char *reason)
{
        DMIO_CLEANUP(freep) char *way = NULL;
        size_t length = 0;
        FILE *stream;

        stream = open_memstream(&way, &length);
        if (!stream)
                return ERROR_NO_MEMORY;
        place_print(stream, place);
        if (fclose(stream) != 0)
                return ERROR_NO_MEMORY;
        return error_invalid_parameter(way, reason);
}

static json_t *read_object(const struct place *place, const struct field *fields,
                           const json_t *object, void *target, size_t size);

static json_t *read_int(const struct place *place, const struct field *field, const json_t *value,
                        int64_t *target)
{
        char reason[96];
        json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;

        if (json_is_integer(value) && n >= field->min && n <= field->max) {
                *target = n;
                return NULL;
        }
        (void)snprintf(reason, sizeof(reason), "must be an integer from %" PRId64 " to %" PRId64,
                       field->min, field->max);
        return wrong(place, reason);
}

static json_t *read_enum(const struct place *place, const struct field *field, const json_t *value,
                         int *target)
{
        char reason[160] = "must be one of";
        size_t length = strlen(reason);

        for (int i = 0; field->names[i]; i++) {
                if (json_is_string(value) &&
                    strlen(json_string_value(value)) == json_string_length(value) &&
                    strcmp(json_string_value(value), field->names[i]) == 0) {
                        *target = i;
                        return NULL;
                }
                if (length < sizeof(reason))
                        length += (size_t)snprintf(reason + length, sizeof(reason) - length,
                                                   "%s %s", i > 0 ? "," : "", field->names[i]);
        }
        return wrong(place, reason);
}

static json_t *read_array(const struct place *place, const struct field *field, const json_t *value,
                          struct field_array *target)
{
        size_t size = field->type == FIELD_INTS ? sizeof(int64_t) : field->size;
        size_t index;
        json_t *item;

        if (!json_is_array(value))
                return wrong(place, "must be an array");

        target->present = true;
        target->items = calloc(json_array_size(value) + 1, size);
        if (!target->items)
                return ERROR_NO_MEMORY;
        json_array_foreach (value, index, item) {
                struct place here = { place->parent, place->name, index };
                void *slot = (char *)target->items + index * size;
                json_t *error;

                /* Counted first: a struct that was begun is cleared with the others. */
                target->n = index + 1;
                if (field->type == FIELD_INTS)
                        error = read_int(&here, field, item, slot);
                else
                        error = read_object(&here, field->fields, item, slot, field->size);
                if (error)
                        return error;
        }
        return NULL;
}

static json_t *read_field(const struct place *place, const struct field *field, const json_t *value,
                          void *slot)
{
        switch (field->type) {
        case FIELD_STRING:
                if (!json_is_string(value))
                        return wrong(place, "must be a string");
                if (strlen(json_string_value(value)) != json_string_length(value))
                        return wrong(place, "has a NUL character");
                *(char **)slot = strdup(json_string_value(value));
                return *(char **)slot ? NULL : ERROR_NO_MEMORY;
        case FIELD_BOOL:
                if (!json_is_boolean(value))
                        return wrong(place, "must be true or false");
                *(bool *)slot = json_is_true(value);
                return NULL;
        case FIELD_INT:
                return read_int(place, field, value, slot);
        case FIELD_ENUM:
                return read_enum(place, field, value, slot);
        case FIELD_OBJECT:
                *(void **)slot = calloc(1, field->size);
                if (!*(void **)slot)
                        return ERROR_NO_MEMORY;
                return read_object(place, field->fields, value, *(void **)slot, field->size);
        case FIELD_INTS:
        case FIELD_OBJECTS:
                return read_array(place, field, value, slot);
        }
        return ERROR_NO_MEMORY;
}

static const struct field *find_field(const struct field *fields, const char *name)
{
        for (const struct field *field = fields; field && field->name; field++)
                if (strcmp(field->name, name) == 0)
                        return field;
        return NULL;
}

static void set_absent(const struct field *fields, void *target, size_t size)
{
        if (size > 0)
                memset(target, 0, size);
        for (const struct field *field = fields; field && field->name; field++) {
                void *slot = (char *)target + field->offset;

                if (field->type == FIELD_INT)
                        *(int64_t *)slot = FIELD_ABSENT;
                else if (field->type == FIELD_ENUM)
                        *(int *)slot = FIELD_ABSENT;
        }
}

static json_t *read_object(const struct place *place, const struct field *fields,
                           const json_t *object, void *target, size_t size)
{
        const char *name;
        json_t *value;

        set_absent(fields, target, size);
        if (place && !json_is_object(object))
                return wrong(place, "must be an object");

        /* Unknown names come first: a misspelt name is better news than that it is missing. */
        json_object_foreach ((json_t *)object, name, value) {
                struct place here = { place, name, SIZE_MAX };

                if (!find_field(fields, name))
                        return wrong(&here, "is not known here");
        }
        for (const struct field *field = fields; field && field->name; field++) {
                struct place here = { place, field->name, SIZE_MAX };
                json_t *error = NULL;

                value = json_object_get(object, field->name);
                if (value && !json_is_null(value))
                        error = read_field(&here, field, value, (char *)target + field->offset);
                else if (field->required)
                        error = wrong(&here, "is missing");
                if (error)
                        return error;
        }
        return NULL;
}

json_t *fields_read(const struct field *fields, const json_t *object, void *target, size_t size)
{
        json_t *error;

        if (object && !json_is_object(object)) {
                set_absent(fields, target, size);
                return error_invalid_parameter("parameters", "must be an object");
        }
        error = read_object(NULL, fields, object, target, size);
        if (error)
                fields_clear(fields, target, size);
        return error;
}

size_t fields_footprint(const struct field *fields, const void *target)
{
        size_t total = 0;

        for (const struct field *field = fields; field && field->name; field++) {
                const void *slot = (const char *)target + field->offset;
                const struct field_array *array = slot;

                switch (field->type) {
                case FIELD_STRING:
                        total += *(char *const *)slot ? strlen(*(char *const *)slot) : 0;
                        break;
                case FIELD_OBJECT:
                        if (*(void *const *)slot)
                                total += fields_footprint(field->fields, *(void *const *)slot);
                        break;
                case FIELD_INTS:
                        total += 3 * array->n * sizeof(int64_t);
                        break;
                case FIELD_OBJECTS:
                        total += 3 * array->n * field->size;
                        for (size_t i = 0; i < array->n; i++)
                                total +=
                                        fields_footprint(field->fields, (const char *)array->items +
                                                                                i * field->size);
                        break;
                case FIELD_BOOL:
                case FIELD_INT:
                case FIELD_ENUM:
                        break;
                }
        }
        return total;
}

void fields_clear(const struct field *fields, void *target, size_t size)
{
        for (const struct field *field = fields; field && field->name; field++) {
                void *slot = (char *)target + field->offset;

                switch (field->type) {
                case FIELD_STRING:
                        free(*(char **)slot);
                        break;
                case FIELD_OBJECT:
                        if (*(void **)slot)
                                fields_clear(field->fields, *(void **)slot, field->size);
                        free(*(void **)slot);
                        break;
                case FIELD_OBJECTS:
                case FIELD_INTS: {
                        struct field_array *array = slot;

                        for (size_t i = 0; field->type == FIELD_OBJECTS && i < array->n; i++)
                                fields_clear(field->fields, (char *)array->items + i * field->size,
                                             field->size);
                        free(array->items);
                        break;
                }
                case FIELD_BOOL:
                case FIELD_INT:
                case FIELD_ENUM:
                        break;
                }
        }
        set_absent(fields, target, size);
}
