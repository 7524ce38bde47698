/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * 133 to 137, 142 and 143: errors of the copier, and the order of its writes.
 *
 * What has to be under way when an error is met is held until the case has seen it.
 */
#include <errno.h>

#include "copier-kit.h"
#include "util/macros.h"

/* --- 133 to 137: errors */

static void breaks(struct kit *kit, struct disk *disk, unsigned int ops,
                   const struct io_region *where)
{
        struct fault_rule it = {
                .action = FAULT_ERROR,
                .ops = ops,
                .offset = where->sector * DMIO_SECTOR_SIZE,
                .length = where->count * DMIO_SECTOR_SIZE,
                .error = EIO,
        };

        disk_fault(kit, disk, &it);
}

/* Reads of the other chunks are held until the error has been met. */
static void case_133_read_error(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dm_kcopyd_job_status status;
        struct dm_kcopyd_job *job = NULL;
        struct told told = TOLD_INIT;
        struct disk *source, *disk;
        struct io_region from, dest, bad, others;
        struct dmio_fault *hold;

        copier_disks(kit, 20 * CHUNK - 32, &source, &from, &disk, &dest, 1);
        bad = chunk_of(&from, 0);
        others = on_disk(source, from.sector + CHUNK, 18 * CHUNK);
        (void)rule_new(kit, DMIO_FAULT_ERROR, DMIO_FAULT_READ, &bad, 0, 0);
        hold = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_READ, &others, 0, 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, &job), 0);
        rule_wait_held(hold, 7);
        do
                dm_kcopyd_job_status(job, &status);
        while (!status.read_err);
        assert_int_equal(kit_calls(&told.completion), 0);
        dmio_fault_remove(hold);
        copier_expect_told(kit, &told, 1, 0);

        dm_kcopyd_job_status(job, &status);
        assert_int_equal(status.state, DM_KCOPYD_JOB_FAILED);
        assert_int_equal(status.source.error, EIO);
        assert_int_equal(status.source.sector, from.sector);
        assert_int_equal(chunks_begun(kc), 8);
        assert_int_equal(status.done, 7 * CHUNK);
        for (unsigned int i = 0; i < 9; i++)
                expect_chunk(kit, disk, &dest, i, i > 0 && i < 8);
        dm_kcopyd_job_unref(job);
        copier_end(kc);
}

static void case_134_read_error_ignored(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *source = kit_disk(kit, DISK_FAULTY), *disks[2];
        struct io_region from = on_disk(source, 8, 4 * CHUNK), dests[2], bad, last;

        disk_fill(kit, source, 8, 4 * CHUNK, 1);
        for (unsigned int i = 0; i < 2; i++) {
                disks[i] = kit_disk(kit, DISK_FILE);
                dests[i] = on_disk(disks[i], 16 * i, 4 * CHUNK);
                disk_fill(kit, disks[i], 16 * i, 4 * CHUNK, 2);
        }
        bad = chunk_of(&from, 1);
        last = on_disk(source, bad.sector + CHUNK - 8, 8);
        breaks(kit, source, FAULT_READ, &last);
        copier_expect(kit, kc, &from, 2, dests, DM_KCOPYD_IGNORE_ERROR, 1, 0);
        for (unsigned int i = 0; i < 2; i++)
                for (unsigned int k = 0; k < 4; k++)
                        /* Of the chunk that failed the part that was read may have been kept. */
                        if (k != 1)
                                expect_chunk(kit, disks[i], &dests[i], k, true);
                        else
                                disk_expect_zeroes(kit, disks[i], dests[i].sector + 2 * CHUNK - 8,
                                                   8 * DMIO_SECTOR_SIZE);

        breaks(kit, source, FAULT_READ, &bad);
        copier_expect(kit, kc, &from, 2, dests, DM_KCOPYD_IGNORE_ERROR, 1, 0);
        for (unsigned int i = 0; i < 2; i++)
                for (unsigned int k = 0; k < 4; k++)
                        expect_chunk(kit, disks[i], &dests[i], k, k != 1);
        copier_end(kc);
}

static void case_135_a_bad_destination(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct disk *source, *disks[3];
        struct io_region from, dests[3];

        copier_disks(kit, CHUNK, &source, &from, disks, dests, 3);
        disks[1] = kit_disk(kit, DISK_FAULTY);
        dests[1].bdev = disks[1]->bdev;
        disk_breaks(kit, disks[1], FAULT_WRITE, EIO);
        copier_expect(kit, kc, &from, 3, dests, 0, 0, 0x2);
        expect_copied(kit, disks[0], &dests[0]);
        expect_copied(kit, disks[2], &dests[2]);
        copier_end(kc);
}

static void case_136_errors_add_up(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dm_kcopyd_job_status status;
        struct dm_kcopyd_job *job = NULL;
        struct told told = TOLD_INIT;
        struct disk *source, *disks[3];
        struct io_region from, dests[3], bad;

        copier_disks(kit, 12 * CHUNK, &source, &from, disks, dests, 3);
        for (unsigned int i = 1; i < 3; i++) {
                disks[i] = kit_disk(kit, DISK_FAULTY);
                dests[i].bdev = disks[i]->bdev;
                bad = chunk_of(&dests[i], i == 1 ? 0 : 2);
                breaks(kit, disks[i], FAULT_WRITE, &bad);
        }
        assert_int_equal(dm_kcopyd_copy(kc, &from, 3, dests, DM_KCOPYD_IGNORE_ERROR, told_notify,
                                        &told, &job),
                         0);
        copier_expect_told(kit, &told, 0, 0x6);
        assert_int_equal(chunks_begun(kc), 12);
        dm_kcopyd_job_status(job, &status);
        assert_int_equal(status.state, DM_KCOPYD_JOB_FAILED);
        assert_int_equal(status.done, status.total);
        assert_int_equal(status.dests[0].error, 0);
        assert_int_equal(status.dests[1].error, EIO);
        assert_int_equal(status.dests[1].sector, dests[1].sector);
        assert_int_equal(status.dests[2].error, EIO);
        assert_int_equal(status.dests[2].sector, dests[2].sector + 2 * CHUNK);
        expect_copied(kit, disks[0], &dests[0]);
        for (unsigned int k = 0; k < 12; k++) {
                expect_chunk(kit, disks[1], &dests[1], k, k != 0);
                expect_chunk(kit, disks[2], &dests[2], k, k != 2);
        }
        dm_kcopyd_job_unref(job);
        copier_end(kc);
}

static void case_137_started_chunks_finish(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dm_kcopyd_job_status status;
        struct dm_kcopyd_job *job = NULL;
        struct told told = TOLD_INIT;
        struct disk *source, *disk;
        struct io_region from, dest, bad;
        struct dmio_fault *hold;

        copier_disks(kit, 20 * CHUNK - 64, &source, &from, &disk, &dest, 1);
        bad = chunk_of(&dest, 0);
        (void)rule_new(kit, DMIO_FAULT_ERROR, DMIO_FAULT_WRITE, &bad, 0, 0);
        hold = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_WRITE, &dest, 0, 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, 0, told_notify, &told, &job), 0);
        rule_wait_held(hold, 7);
        do
                dm_kcopyd_job_status(job, &status);
        while (!status.write_err);
        assert_int_equal(status.state, DM_KCOPYD_JOB_RUNNING);
        dmio_fault_remove(hold);
        copier_expect_told(kit, &told, 0, 1);
        dm_kcopyd_job_status(job, &status);
        assert_int_equal(status.state, DM_KCOPYD_JOB_FAILED);
        assert_int_equal(status.done, 7 * CHUNK);
        assert_int_equal(chunks_begun(kc), 8);
        for (unsigned int i = 0; i < 19; i++)
                expect_chunk(kit, disk, &dest, i, i > 0 && i < 8);
        dm_kcopyd_job_unref(job);
        copier_end(kc);
}

/* --- 142, 143: in sequence */

/*
 * The write that is number k fails, and the job tells its sector: so it is chunk k, whatever the
 * order of the reads.
 */
static void case_142_writes_in_sequence(struct kit *kit)
{
        static const unsigned int orders[][DM_KCOPYD_SUB_JOBS] = {
                { 7, 6, 5, 4, 3, 2, 1, 0 },
                { 1, 0, 3, 2, 5, 4, 7, 6 },
                { 4, 0, 7, 1, 6, 2, 5, 3 },
        };
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dmio_fault *holds[DM_KCOPYD_SUB_JOBS], *error;
        struct dm_kcopyd_job_status status;
        struct dm_kcopyd_job *job = NULL;
        struct io_region from, dest, chunk;
        struct disk *source, *disk;

        copier_disks(kit, DM_KCOPYD_SUB_JOBS * CHUNK, &source, &from, &disk, &dest, 1);
        for (unsigned int k = 0; k <= DM_KCOPYD_SUB_JOBS; k++) {
                struct told told = TOLD_INIT;

                error = rule_new(kit, DMIO_FAULT_ERROR, DMIO_FAULT_WRITE, &dest, k, 1);
                for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++) {
                        chunk = chunk_of(&from, i);
                        holds[i] = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_READ, &chunk, 0, 0);
                }
                assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest, DM_KCOPYD_WRITE_SEQ,
                                                told_notify, &told, &job),
                                 0);
                for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++)
                        rule_wait_held(holds[i], 1);
                for (unsigned int i = 0; i < DM_KCOPYD_SUB_JOBS; i++) {
                        dmio_fault_remove(holds[orders[k % ARRAY_SIZE(orders)][i]]);
                        assert_int_equal(dm_kcopyd_client_flush(kc), 0);
                }
                copier_expect_told(kit, &told, 0, k < DM_KCOPYD_SUB_JOBS);
                dm_kcopyd_job_status(job, &status);
                assert_int_equal(status.dests[0].error, k < DM_KCOPYD_SUB_JOBS ? EIO : 0);
                if (k < DM_KCOPYD_SUB_JOBS)
                        assert_int_equal(status.dests[0].sector, dest.sector + k * CHUNK);
                dm_kcopyd_job_unref(job);
                dmio_fault_remove(error);
        }
        expect_copied(kit, disk, &dest);
        copier_end(kc);
}

static void case_143_sequence_ends_with_an_error(struct kit *kit)
{
        struct dm_kcopyd_client *kc = copier_new(kit);
        struct dm_kcopyd_job_status status;
        struct dm_kcopyd_job *job = NULL;
        struct told told = TOLD_INIT;
        struct disk *source, *disk;
        struct io_region from, dest, bad, later, later_reads;
        struct dmio_fault *hold, *later_writes;

        copier_disks(kit, 12 * CHUNK, &source, &from, &disk, &dest, 1);
        bad = chunk_of(&dest, 2);
        later = on_disk(disk, bad.sector + CHUNK, 9 * CHUNK);
        later_reads = on_disk(source, from.sector + 3 * CHUNK, 9 * CHUNK);
        later_writes = counter_new(kit, DMIO_FAULT_WRITE, &later);
        (void)rule_new(kit, DMIO_FAULT_ERROR, DMIO_FAULT_WRITE, &bad, 0, 0);
        hold = rule_new(kit, DMIO_FAULT_HOLD, DMIO_FAULT_READ, &later_reads, 0, 0);
        assert_int_equal(dm_kcopyd_copy(kc, &from, 1, &dest,
                                        DM_KCOPYD_WRITE_SEQ | DM_KCOPYD_IGNORE_ERROR, told_notify,
                                        &told, &job),
                         0);
        do
                dm_kcopyd_job_status(job, &status);
        while (!status.write_err);
        dmio_fault_remove(hold);
        copier_expect_told(kit, &told, 0, 1);
        assert_int_equal(rule_matches(later_writes), 0);
        dm_kcopyd_job_status(job, &status);
        assert_int_equal(status.state, DM_KCOPYD_JOB_FAILED);
        assert_int_equal(status.done, 2 * CHUNK);
        for (unsigned int i = 0; i < 12; i++)
                expect_chunk(kit, disk, &dest, i, i < 2);
        dm_kcopyd_job_unref(job);
        copier_end(kc);
}

static const struct conformance_case cases[] = {
        CASE(133, 133_read_error, ON_MODERN,
             "a chunk cannot be read: (1, 0), it is not written, no new chunk begins", NULL),
        CASE(134, 134_read_error_ignored, ON_MODERN,
             "the same with IGNORE_ERROR: (1, 0), zeroes in its place, the others are copied",
             "exactly what could not be read is zeroes"),
        CASE(135, 135_a_bad_destination, ON_MODERN,
             "1 of 3 destinations is bad: (0, 0b010), the others equal the source", NULL),
        CASE(136, 136_errors_add_up, ON_MODERN,
             "IGNORE_ERROR, different destinations fail in different chunks: (0, 0b110), all are "
             "tried",
             NULL),
        CASE(137, 137_started_chunks_finish, ON_MODERN,
             "the first of 20 chunks fails: those under way finish, no new one begins, (0, 1)",
             NULL),
        CASE(142, 142_writes_in_sequence, ON_MODERN,
             "WRITE_SEQ, reads end in any order: writes begin in the order of their sectors", NULL),
        CASE(143, 143_sequence_ends_with_an_error, ON_MODERN,
             "WRITE_SEQ with IGNORE_ERROR, a write fails: none begins after it, the bit", NULL),
};

const struct conformance_section copier_errors_section = { "The copier", cases, ARRAY_SIZE(cases) };
