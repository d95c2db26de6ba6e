using System.Buffers.Binary;
using KvNode.Raft.Core;
using KvNode.Raft.Wal;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>Old entries read back from a log that is in use.</summary>
public sealed class WalReadTests
{
    [Fact]
    public void WhatIsReadIsWhatWasWrittenLastWhateverWasCutAndGivenUp() =>
        Seeds.Run(nameof(WhatIsReadIsWhatWasWrittenLastWhateverWasCutAndGivenUp), static seeds =>
        {
            for (var run = 0; run < 30; run++)
            {
                var random = new Random(seeds.Next());
                var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
                rig.Open();
                for (var step = 0; step < 40; step++)
                {
                    rig.RunRandomly(random, 1, syncAlways: random.Next(2) == 0);
                    rig.CheckRead(random);
                    rig.CheckInspection();
                }

                rig.Restart(rig.Disk.AfterKill());
                rig.Open();
                for (var read = 0; read < 20; read++)
                {
                    rig.CheckRead(random);
                }

                rig.Close();
            }
        });

    [Fact]
    public void AReadEndsWithTheLogAndIsEmptyOutsideOfIt()
    {
        var (_, log) = NewLog();
        using (log)
        {
            Assert.Empty(log.ReadEntries(1, 10, long.MaxValue));
            for (var i = 1UL; i <= 5; i++)
            {
                Append(log, i, 1);
            }

            Assert.Equal([2UL, 3, 4, 5], Indexes(log.ReadEntries(2, 100, long.MaxValue)));
            Assert.Equal([3UL], Indexes(log.ReadEntries(3, 3, long.MaxValue)));
            Assert.Empty(log.ReadEntries(0, 3, long.MaxValue));
            Assert.Empty(log.ReadEntries(6, 9, long.MaxValue));
            Assert.Empty(log.ReadEntries(4, 3, long.MaxValue));
            Assert.Equal([1UL, 2], Indexes(log.ReadEntries(1, 9, 2 * SizeOf(1))));
            Assert.Equal([1UL], Indexes(log.ReadEntries(1, 9, (2 * SizeOf(1)) - 1)));
            Assert.Equal([1UL], Indexes(log.ReadEntries(1, 9, 0)));
            Assert.Equal([4UL, 5], Indexes(log.LoadTail(4)));
            Assert.Empty(log.LoadTail(6));
        }
    }

    /// <summary>A frame may hold a version, its truncation and the next version of an entry.</summary>
    [Fact]
    public void TheLastVersionCountsWithinOneFrameToo()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            Append(log, 1, 1);
            log.Append(
            [
                Entry(2, 1), Entry(3, 1), Entry(4, 1), WalRecord.Truncate(3), Entry(3, 2), WalRecord.Truncate(2),
                Entry(2, 3), Entry(3, 3), WalRecord.Truncate(3), WalRecord.Truncate(3), Entry(3, 4),
            ]);
            Append(log, 4, 4);
            var expected = new[] { new EntryId(1, 1), new EntryId(3, 2), new EntryId(4, 3), new EntryId(4, 4) };
            Assert.Equal(expected, Ids(log.ReadEntries(1, 9, long.MaxValue)));
            for (var first = 1; first <= 4; first++)
            {
                Assert.Equal(expected.Skip(first - 1).Take(1), Ids(log.ReadEntries((ulong)first, (ulong)first, 0)));
            }

            log.Sync();
            Assert.Equal([new EntryId(1, 1), new EntryId(3, 2), new EntryId(4, 3)], WalRecovery.Inspect(disk).TermRuns);
        }
    }

    [Fact]
    public void AReadDoesNotScanTheSegment()
    {
        var options = WalRig.SmallSegments with { SegmentBytes = 4 << 20 };
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, options, newLogId: 1);
        for (var i = 1UL; i <= 900; i++)
        {
            log.Append([Entry(i, 1, 4000)]);
        }

        Assert.Equal(1UL, log.ActiveSegment);
        var random = new Random(1);
        for (var i = 0; i < 100; i++)
        {
            var at = (ulong)random.Next(1, 901);
            var reads = 0;
            disk.Fault = (operation, _) => reads += operation == DiskOperation.Read ? 1 : 0;
            Assert.Equal([at], Indexes(log.ReadEntries(at, at, long.MaxValue)));

            // Of 128 KiB each, from a mark at most 64 KiB and a frame before.
            Assert.InRange(reads, 1, 1);
        }
    }

    [Fact]
    public void TheMapStaysSmall()
    {
        var map = new LogMap();
        const long FrameBytes = 1024;
        const long SegmentBytes = 1 << 20;
        const int Frames = 20_000;
        var index = 0UL;
        for (var i = 0; i < Frames; i++)
        {
            if (i % 3 == 2)
            {
                // A quarrelsome cluster: the newest entries are replaced all the time.
                map.Apply(WalRecord.Truncate(index) with { Id = new EntryId(1, index) }, Segment(i), Offset(i), 0);
                index--;
            }

            map.Apply(Entry(++index, 1), Segment(i), Offset(i), 1);
        }

        Assert.InRange(map.MarkCount, 1, (Frames / 3) + 1 + (int)(Frames * FrameBytes / LogMap.MarkEveryBytes));
        Assert.Equal([new EntryId(1, 1)], map.TermRuns);
        for (var i = 0UL; i < Segment(Frames - 1); i++)
        {
            map.Forget(i);
        }

        Assert.InRange(map.MarkCount, 1, (int)(SegmentBytes / FrameBytes));

        static ulong Segment(int frame) => (ulong)(frame * FrameBytes / SegmentBytes);

        static long Offset(int frame) => frame * FrameBytes % SegmentBytes;
    }

    [Fact]
    public void AFrameThatRottedIsReportedAndNeverHandedOut()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            for (var i = 1UL; i <= 6; i++)
            {
                Append(log, i, 1, 700);
            }

            var expected = log.ReadEntries(1, 6, long.MaxValue);
            var content = disk.Raw(WalFormat.SegmentName(1));
            var end = (int)WalRecovery.Inspect(disk).End;
            for (var bit = 512 * 8; bit < end * 8; bit += 3)
            {
                content[bit / 8] ^= (byte)(1 << (bit % 8));
                var failure = Record.Exception(() => AssertSame(expected, log.ReadEntries(1, 6, long.MaxValue)));
                Assert.Contains("at byte", Assert.IsType<LogCorruptException>(failure).Message, StringComparison.Ordinal);
                content[bit / 8] ^= (byte)(1 << (bit % 8));
            }

            AssertSame(expected, log.ReadEntries(1, 6, long.MaxValue));
        }
    }

    /// <summary>The segment goes while a reader has it open: at each of its reads in turn.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void ASegmentGivenUpUnderAReaderEndsTheRead(int retireAt)
    {
        var options = WalRig.SmallSegments with { SegmentBytes = 1 << 20 };
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, options, newLogId: 1);
        for (var i = 1UL; log.ActiveSegment < 3; i++)
        {
            log.Append([Entry(i, 1, 4000)]);
        }

        log.Sync();
        var last = log.Last.Index;
        var expected = log.ReadEntries(1, last, long.MaxValue);
        Assert.Equal(last, (ulong)expected.Count);
        var reads = 0;
        disk.Fault = (operation, _) =>
        {
            if (operation == DiskOperation.Read && ++reads == retireAt)
            {
                disk.Fault = null;
                Assert.Equal(2, log.Retire(last));

                // The pool is in no hurry; it may already be another segment when the next bytes are read.
                Append(log, last + 1, 1);
            }
        };
        var found = log.ReadEntries(1, last, long.MaxValue);
        Assert.InRange(found.Count, 0, (int)last - 1);
        AssertSame(expected.Take(found.Count), found);
        Assert.Empty(log.ReadEntries(1, last, long.MaxValue));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WhatIsCutOffDuringAReadIsNotHandedOut(bool restarts)
    {
        var (disk, log) = NewLog(1 << 20);
        using (log)
        {
            for (var i = 1UL; i <= 10; i++)
            {
                Append(log, i, 1);
            }

            disk.Fault = (operation, _) =>
            {
                if (operation == DiskOperation.Read)
                {
                    disk.Fault = null;
                    log.Append([restarts ? WalRecord.SnapshotMarker(new EntryId(2, 20)) : WalRecord.Truncate(6)]);
                    Append(log, log.Last.Index + 1, 2);
                }
            };
            Assert.Equal(restarts ? [] : [1UL, 2, 3, 4, 5], Indexes(log.ReadEntries(1, 10, long.MaxValue)));
            Assert.Equal([new EntryId(2, log.Last.Index)], Ids(log.ReadEntries(log.Last.Index, 99, long.MaxValue)));
        }
    }

    [Fact]
    public async Task ReadersSeeOnlyTrueEntriesWhileTheLogIsWrittenCutAndGivenUp()
    {
        using var directory = new TempDirectory();
        using var log = WriteAheadLog.Open(
            FileDisk.OpenOrCreate(directory.Path), new WalOptions { SegmentBytes = 64 * 1024 }, newLogId: 1);
        Append(log, 1, 1);
        using var stop = new CancellationTokenSource();
        var readers = Enumerable.Range(1, 2)
            .Select(seed => Task.Factory.StartNew(
                () => ReadUntil(log, new Random(seed), stop.Token),
                CancellationToken.None,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default))
            .ToArray();
        WriteCutAndRetire(log, new Random(7));
        await stop.CancelAsync();
        Assert.All(await Task.WhenAll(readers), found => Assert.True(found > 0));
        Assert.True(log.ActiveSegment > 20);
    }

    private static void WriteCutAndRetire(WriteAheadLog log, Random random)
    {
        var (term, commit) = (1UL, 1UL);
        for (var step = 0; step < 1500; step++)
        {
            if (random.Next(8) == 0)
            {
                term++;
                log.Append([WalRecord.Truncate((ulong)random.NextInt64((long)commit, (long)log.Last.Index + 1) + 1)]);
            }

            var next = log.Last.Index;
            log.Append([Entry(next + 1, term, random.Next(2000)), Entry(next + 2, term, random.Next(2000))]);
            if (random.Next(10) == 0)
            {
                log.Sync();
                commit = (ulong)random.NextInt64((long)commit, (long)log.Last.Index + 1);
                log.Append([WalRecord.Commit(commit)]);
                _ = log.Retire(commit - Math.Min(commit, 60));
            }
        }
    }

    /// <returns>Entries seen.</returns>
    private static long ReadUntil(WriteAheadLog log, Random random, CancellationToken stop)
    {
        var seen = 0L;
        do
        {
            var first = log.FirstIndex + (ulong)random.Next(200);
            var entries = log.ReadEntries(first, first + (ulong)random.Next(200), random.Next(100_000));
            for (var i = 0; i < entries.Count; i++)
            {
                Assert.Equal(first + (ulong)i, entries[i].Id.Index);
                Assert.True(i == 0 || entries[i - 1].Id.Term <= entries[i].Id.Term);
                AssertIsTrue(entries[i]);
            }

            seen += entries.Count;
        }
        while (!stop.IsCancellationRequested || seen == 0);

        return seen;
    }

    private static (SimDisk Disk, WriteAheadLog Log) NewLog(long segmentBytes = 16 * 512)
    {
        var disk = new SimDisk();
        var options = WalRig.SmallSegments with { SegmentBytes = segmentBytes };
        return (disk, WriteAheadLog.Open(disk, options, newLogId: 1));
    }

    private static void Append(WriteAheadLog log, ulong index, ulong term, int more = 0) =>
        log.Append([Entry(index, term, more)]);

    /// <summary>An entry whose payload follows from its index and term, and a length.</summary>
    private static WalRecord Entry(ulong index, ulong term, int more = 0)
    {
        var payload = new byte[16 + more];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, index);
        BinaryPrimitives.WriteUInt64LittleEndian(payload.AsSpan(8), term);
        payload.AsSpan(16).Fill((byte)(index + term));
        return WalRecord.Entry(new EntryId(term, index), EntryKind.Normal, payload);
    }

    private static void AssertIsTrue(LogEntry entry)
    {
        var payload = entry.Payload.Span;
        Assert.Equal(entry.Id.Index, BinaryPrimitives.ReadUInt64LittleEndian(payload));
        Assert.Equal(entry.Id.Term, BinaryPrimitives.ReadUInt64LittleEndian(payload[8..]));
        Assert.False(payload[16..].ContainsAnyExcept((byte)(entry.Id.Index + entry.Id.Term)));
    }

    private static void AssertSame(IEnumerable<LogEntry> expected, List<LogEntry> found)
    {
        Assert.Equal(Ids(expected), Ids(found));
        Assert.All(found, AssertIsTrue);
    }

    private static long SizeOf(ulong index) => new LogEntry(default, default, Entry(index, 1).Payload).Size;

    private static IEnumerable<ulong> Indexes(IEnumerable<LogEntry> entries) => entries.Select(entry => entry.Id.Index);

    private static IEnumerable<EntryId> Ids(IEnumerable<LogEntry> entries) => entries.Select(entry => entry.Id);
}
