/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <stdarg.h>
#include <stdio.h>

#include "model/refusal.h"
#include "model/region-table.h"

int refuse_region(struct model_refusal *refusal, unsigned int region, const char *format, ...)
{
        va_list arguments;

        refusal->region = region;
        va_start(arguments, format);
        (void)vsnprintf(refusal->reason, sizeof(refusal->reason), format, arguments);
        va_end(arguments);
        return MODEL_E_REGION;
}

int refuse_held_region(struct model_refusal *refusal, unsigned int region,
                       const struct grant *grant)
{
        refusal->region = region;
        refusal->client = grant->client_name;
        refusal->export = grant->export_name;
        refusal->n_open = 0;
        return MODEL_E_BUSY;
}
