/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <string.h>

#include "dmioctl/show.h"
#include "dmioctl/tally.h"

void tally_read(struct tally *tally, const json_t *operation)
{
        const json_t *bucket;
        size_t i;

        *tally = (struct tally){
                .count = show_integer(operation, "count"),
                .errors = show_integer(operation, "errors"),
                .bytes = show_integer(operation, "bytes"),
                .total_us = show_integer(operation, "total_us"),
        };
        json_array_foreach (json_object_get(operation, "latency"), i, bucket) {
                const json_t *bound = json_object_get(bucket, "upto_us");
                unsigned int n = bound ? latency_bucket((uint64_t)json_integer_value(bound))
                                       : LATENCY_BUCKETS - 1;

                tally->buckets[n] += show_integer(bucket, "count");
        }
}

void tally_find(struct tally *tally, const json_t *operations, const char *name)
{
        const json_t *operation, *found = NULL;
        size_t i;

        json_array_foreach (operations, i, operation)
                if (strcmp(show_string(operation, "operation"), name) == 0)
                        found = operation;
        tally_read(tally, found);
}

void tally_add(struct tally *sum, const struct tally *part)
{
        sum->count += part->count;
        sum->errors += part->errors;
        sum->bytes += part->bytes;
        sum->total_us += part->total_us;
        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                sum->buckets[i] += part->buckets[i];
}

void tally_subtract(struct tally *tally, const struct tally *before)
{
        bool grown = tally->count >= before->count && tally->errors >= before->errors &&
                     tally->bytes >= before->bytes && tally->total_us >= before->total_us;

        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                grown &= tally->buckets[i] >= before->buckets[i];
        if (!grown)
                return;
        tally->count -= before->count;
        tally->errors -= before->errors;
        tally->bytes -= before->bytes;
        tally->total_us -= before->total_us;
        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                tally->buckets[i] -= before->buckets[i];
}

uint64_t tally_percentile(const struct tally *tally, double part)
{
        uint64_t low = 0, high, below = 0, count = 0;
        double wanted;

        for (unsigned int i = 0; i < LATENCY_BUCKETS; i++)
                count += tally->buckets[i];
        wanted = part * (double)count;
        for (unsigned int i = 0; i < LATENCY_BUCKETS - 1; i++) {
                uint64_t n = tally->buckets[i];

                high = latency_bound(i);
                if (n > 0 && (double)(below + n) >= wanted)
                        return low + (uint64_t)((double)(high - low) * (wanted - (double)below) /
                                                        (double)n +
                                                0.5);
                below += n;
                low = high;
        }
        return count > 0 ? low : 0;
}
