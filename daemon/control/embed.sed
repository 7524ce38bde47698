# SPDX-License-Identifier: LGPL-2.1-or-later
# A text as a C string.
s/\\/\\\\/g
s/"/\\"/g
s/^/"/
s/$/\\n"/
