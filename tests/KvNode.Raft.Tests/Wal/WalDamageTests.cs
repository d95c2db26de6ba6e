using System.Globalization;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>
/// What recovery does with a log that was changed behind its back: the same entries, or a refusal that says where.
/// </summary>
public sealed class WalDamageTests
{
    private const int ShardCount = 4;

    public static TheoryData<int> Shards => [.. Enumerable.Range(0, ShardCount)];

    [Theory]
    [MemberData(nameof(Shards))]
    public void EveryFlippedBitGivesTheSameEntriesOrARefusal(int shard)
    {
        foreach (var (disk, log) in new[] { DenseLog(), SparseLog(), ChangedLog() })
        {
            foreach (var name in disk.Names())
            {
                var content = disk.Raw(name);
                for (var bit = shard; bit < content.Length * 8; bit += ShardCount)
                {
                    content[bit / 8] ^= (byte)(1 << (bit % 8));
                    if (TryRead(disk, out var found, out var refusal))
                    {
                        Assert.True(log == found, $"bit {bit} of {name} changed the log to {found}");
                    }
                    else
                    {
                        AssertNamesPlace(disk, refusal);
                    }

                    content[bit / 8] ^= (byte)(1 << (bit % 8));
                }
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EveryFlippedBitInAFrameIsFound(bool changed)
    {
        var (disk, _) = changed ? ChangedLog() : DenseLog();
        var image = WalRecovery.Inspect(disk);
        var name = WalFormat.SegmentName(image.Used[^1].Id);
        var content = disk.Raw(name);
        for (var bit = 0; bit < image.End * 8; bit++)
        {
            content[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.False(TryRead(disk, out _, out _), $"bit {bit}");
            content[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }

    [Theory]
    [MemberData(nameof(Shards))]
    public void TheLastSegmentCutAtEveryByteKeepsTheFramesBeforeTheCut(int shard)
    {
        foreach (var (disk, _) in new[] { DenseLog(), SparseLog(), ChangedLog(), ChangedLog(segmentBytes: 60 * 512) })
        {
            var image = WalRecovery.Inspect(disk);
            var last = image.Used[^1];
            disk.RemoveRaw(WalFormat.SegmentName(last.Id + 1));
            var name = WalFormat.SegmentName(last.Id);
            var content = disk.Raw(name);
            var frames = FrameEnds(disk, last);
            for (var bytes = shard; bytes <= content.Length; bytes += ShardCount)
            {
                disk.SetRaw(name, content[..bytes]);
                var expected = last.Header.Before;
                foreach (var (end, state) in frames)
                {
                    expected = end <= bytes ? state : expected;
                }

                Assert.Equal(expected, WalRecovery.Inspect(disk).State);
                disk.SetRaw(name, content);
            }
        }
    }

    [Fact]
    public void ALogCutAnywhereCanBeOpenedAndContinued()
    {
        var (disk, _) = SparseLog();
        var last = WalRecovery.Inspect(disk).Used[^1];
        var name = WalFormat.SegmentName(last.Id);
        for (var bytes = 0; bytes < disk.Raw(name).Length; bytes += 100)
        {
            var copy = disk.Clone();
            copy.RemoveRaw(WalFormat.SegmentName(last.Id + 1));
            copy.SetRaw(name, disk.Raw(name)[..bytes]);
            EntryId next;
            using (var log = WriteAheadLog.Open(copy, WalRig.SmallSegments, newLogId: 1))
            {
                next = new EntryId(9, log.Last.Index + 1);
                log.Append([WalRecord.Entry(next, EntryKind.Normal, new byte[3000])]);
                log.Sync();
            }

            Assert.Equal(next, WalRecovery.Inspect(copy).Last);
        }
    }

    [Fact]
    public void AnEarlierSegmentCutShortIsRefusedUnlessOnlyItsUnusedEndIsGone()
    {
        var (disk, log) = ChangedLog();
        var first = WalRecovery.Inspect(disk).Used[0];
        var name = WalFormat.SegmentName(first.Id);
        var content = disk.Raw(name);
        var end = FrameEnds(disk, first)[^1].End;
        for (var bytes = 0; bytes < content.Length; bytes++)
        {
            disk.SetRaw(name, content[..bytes]);
            if (TryRead(disk, out var found, out var refusal))
            {
                Assert.True(bytes >= end);
                Assert.Equal(log, found);
            }
            else
            {
                Assert.True(bytes < end);
                AssertNamesPlace(disk, refusal);
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AMissingSegmentIsRefused(bool changed)
    {
        var (disk, log) = changed ? ChangedLog() : DenseLog();
        var image = WalRecovery.Inspect(disk);
        Assert.True(image.Used.Count >= 4);
        foreach (var segment in image.Used)
        {
            var name = WalFormat.SegmentName(segment.Id);
            var content = disk.Raw(name);
            disk.RemoveRaw(name);
            var refused = !TryRead(disk, out var found, out _);

            // Without its first segment the log is a sound log that begins later; the engine compares with the store.
            Assert.True(refused || (segment == image.Used[0] && log.EndsWith(found, StringComparison.Ordinal)));
            disk.SetRaw(name, content);
        }
    }

    [Fact]
    public void ALogOfBlankSegmentsOnlyIsRefusedUnlessItIsNew()
    {
        var disk = new SimDisk();
        disk.SetRaw(WalFormat.SegmentName(5), new byte[8192]);
        Assert.False(TryRead(disk, out _, out _));

        var fresh = new SimDisk();
        fresh.SetRaw(WalFormat.SegmentName(1), new byte[8192]);
        Assert.True(TryRead(fresh, out var found, out _));
        Assert.Equal("", found);
    }

    [Fact]
    public void ASegmentOfAnotherLogIsRefused()
    {
        var (disk, _) = DenseLog();
        var (other, _) = DenseLog(logId: 77);
        var name = WalFormat.SegmentName(2);
        disk.SetRaw(name, other.Raw(name));
        Assert.False(TryRead(disk, out _, out var refusal));
        Assert.Contains("another log", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnUnknownFormatVersionIsRefusedByName()
    {
        var (disk, _) = DenseLog();
        var sector = disk.Raw(WalFormat.SegmentName(1)).AsSpan(0, 512);
        sector[8] = 9;
        BitConverter.TryWriteBytes(sector[508..], Crc32C.Compute(sector[..508]));
        Assert.False(TryRead(disk, out _, out var refusal));
        Assert.Contains("version 9", refusal.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(6)]
    [InlineData(200)]
    public void AnUnknownRecordKindIsRefusedAndNotSkipped(byte kind)
    {
        var disk = HandMade([new WalRecord((RecordKind)kind, default, new EntryId(1, 1), default)]);
        Assert.False(TryRead(disk, out _, out var refusal));
        AssertNamesPlace(disk, refusal);
    }

    /// <summary>Sound frames in an order that no program of ours writes.</summary>
    [Fact]
    public void RecordsThatCannotFollowAreRefused()
    {
        var first = WalRecord.Entry(new EntryId(3, 1), EntryKind.Normal, default);
        var second = WalRecord.Entry(new EntryId(3, 2), EntryKind.Normal, default);
        (string Reason, WalRecord[] Records)[] wrong =
        [
            ("the log ends at 2@3", [first, second, Cut(4, 3)]),
            ("the log ends at", [Cut(0, 0)]),
            ("are committed", [first, second, WalRecord.Commit(2), Cut(2, 3)]),
            ("a term it does not have", [first, second, Cut(2, 2)]),
            ("the log ends at 2@3", [first, second, WalRecord.Commit(3)]),
            ("a snapshot of 1@3", [first, second, WalRecord.Commit(2), WalRecord.SnapshotMarker(new EntryId(3, 1))]),
            ("cannot follow 9@3", [first, WalRecord.SnapshotMarker(new EntryId(3, 9)), second]),
            ("the term goes back", [WalRecord.Of(new HardState(2, 0)), WalRecord.Of(new HardState(1, 0))]),
        ];
        foreach (var (reason, records) in wrong)
        {
            Assert.False(TryRead(HandMade(records), out _, out var refusal), reason);
            Assert.Contains(reason, refusal.Message, StringComparison.Ordinal);
            AssertNamesPlace(HandMade(records), refusal);
        }

        Assert.True(TryRead(HandMade([first, second, Cut(2, 3)]), out _, out _));

        static WalRecord Cut(ulong from, ulong termBefore) =>
            WalRecord.Truncate(from) with { Id = new EntryId(termBefore, from) };
    }

    /// <summary>
    /// A user may store a copy of a log as a value; bytes of a torn frame are not evidence against it.
    /// </summary>
    [Fact]
    public void AFrameInsideTheValueOfATornFrameIsNoEvidenceOfDamage()
    {
        var (other, _) = DenseLog(logId: 77);
        var disk = new SimDisk();
        long start;
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1))
        {
            log.Append([WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[10])]);
            log.Sync();
            start = WalRecovery.Inspect(disk).End;
            for (var shift = 0; shift < 512; shift += 4)
            {
                // Some shift brings the inner frames to the sector grain.
                var copy = disk.Clone();
                using var torn = WriteAheadLog.Open(copy, WalRig.SmallSegments, newLogId: 1);
                var value = new byte[shift].Concat(other.Raw(WalFormat.SegmentName(1)).Take(4000)).ToArray();
                torn.Append([WalRecord.Entry(new EntryId(1, 2), EntryKind.Normal, value)]);
                copy.Raw(WalFormat.SegmentName(1)).AsSpan((int)start, 512).Clear();
                var image = WalRecovery.Inspect(copy);
                Assert.Equal(new EntryId(1, 1), image.Last);
                Assert.NotNull(image.TornTail);
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ALaterFrameIsProofOfDamageOnlyIfItWasWrittenAfterASync(bool synced)
    {
        var disk = new SimDisk();
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1))
        {
            for (var i = 1UL; i <= 3; i++)
            {
                log.Append([WalRecord.Entry(new EntryId(1, i), EntryKind.Normal, new byte[600])]);
                if (synced)
                {
                    log.Sync();
                }
            }
        }

        // Frames of two sectors: the second one's first sector.
        disk.Raw(WalFormat.SegmentName(1)).AsSpan(3 * 512, 512).Clear();
        if (synced)
        {
            Assert.False(TryRead(disk, out _, out var refusal));
            Assert.Contains("at byte 1536", refusal.Message, StringComparison.Ordinal);
        }
        else
        {
            Assert.Equal(new EntryId(1, 1), WalRecovery.Inspect(disk).Last);
        }
    }

    [Theory]
    [MemberData(nameof(Shards))]
    public void SeededMutationsNeverThrowAnythingButARefusalAndNeverInventEntries(int shard)
    {
        var (other, _) = DenseLog(logId: 77);
        foreach (var (disk, log) in new[] { DenseLog(), ChangedLog() })
        {
            MutateAndRead(disk, other, EverWritten(disk, log), shard);
        }
    }

    private static void MutateAndRead(SimDisk disk, SimDisk other, HashSet<string> allowed, int shard)
    {
        for (var seed = shard; seed < 6000; seed += ShardCount)
        {
            var random = new Random(seed);
            var copy = disk.Clone();
            for (var i = random.Next(1, 4); i > 0; i--)
            {
                Mutate(copy, other, random);
            }

            if (TryRead(copy, out var found, out _))
            {
                foreach (var line in found.Split('\n', StringSplitOptions.RemoveEmptyEntries))
                {
                    Assert.True(allowed.Contains(line), $"seed {seed} invented {line}");
                }
            }
        }
    }

    /// <summary>
    /// All entries that a cut may bring to light: a lost truncation gives back what it had made void.
    /// </summary>
    private static HashSet<string> EverWritten(SimDisk disk, string log)
    {
        var lines = new HashSet<string>(log.Split('\n'), StringComparer.Ordinal);
        foreach (var segment in WalRecovery.Inspect(disk).Used)
        {
            _ = FrameEnds(disk, segment, record => lines.Add(Line(record.Id, record.EntryKind, record.Payload)));
        }

        return lines;
    }

    private static void Mutate(SimDisk disk, SimDisk other, Random random)
    {
        var names = disk.Names();
        var name = names[random.Next(names.Count)];
        var content = disk.Raw(name);
        if (content.Length < 1024)
        {
            return;
        }

        var at = random.Next(content.Length);
        var length = Math.Min(random.Next(1, 1500), content.Length - at);
        switch (random.Next(7))
        {
            case 0:
                content[at] ^= (byte)(1 << random.Next(8));
                break;
            case 1:
                content[at] = (byte)random.Next(256);
                break;
            case 2:
                content.AsSpan(at, length).Clear();
                break;
            case 3:
                random.NextBytes(content.AsSpan(at, length));
                break;
            case 4:
                disk.SetRaw(name, content[..at]);
                break;
            case 5:
                var source = random.Next(content.Length - length + 1);
                content.AsSpan(source, length).ToArray().CopyTo(content, at);
                break;
            default:
                other.Raw(WalFormat.SegmentName(1)).AsSpan(0, Math.Min(length, 4096)).CopyTo(content.AsSpan(at));
                break;
        }
    }

    /// <summary>A segment with one sound frame of records that the log would never write.</summary>
    private static SimDisk HandMade(WalRecord[] records)
    {
        var payload = (int)FrameEncoder.PayloadBytes(records);
        var layout = FrameLayout.For(payload);
        var content = new byte[16 * 512];
        new SegmentHeader(1, 1, 1, default, 0).Encode(content);
        _ = FrameEncoder.Encode(
            new FrameHeader(1, 1, 1, 0, 0, 0, payload, records.Length, 0, 1),
            layout,
            records,
            content.AsSpan(512, layout.Bytes));
        var disk = new SimDisk();
        disk.SetRaw(WalFormat.SegmentName(1), content);
        return disk;
    }

    /// <summary>Several segments, several frames each, all synced; term and vote changes among them.</summary>
    private static (SimDisk Disk, string Log) DenseLog(ulong logId = 1)
    {
        var options = WalRig.SmallSegments with { SegmentBytes = 5 * 512 };
        var disk = new SimDisk();
        using (var log = WriteAheadLog.Open(disk, options, logId))
        {
            var random = new Random(5);
            for (var i = 1UL; i <= 11; i++)
            {
                var payload = new byte[random.Next(0, 700)];
                random.NextBytes(payload);
                WalRecord[] records = i % 5 == 0
                    ? [WalRecord.Of(new HardState(i, 1)), WalRecord.Entry(new EntryId(i, i), EntryKind.Normal, payload)]
                    : [WalRecord.Entry(new EntryId(log.Last.Term + 1, i), EntryKind.Normal, payload)];
                log.Append(records);
                log.Sync();
            }
        }

        Assert.True(TryRead(disk, out var text, out _));
        return (disk, text);
    }

    /// <summary>
    /// Truncations within a frame, a segment and back over several, a snapshot marker, commit indexes; all synced. A small
    /// log has its marker in the middle and truncations after it.
    /// </summary>
    private static (SimDisk Disk, string Log) ChangedLog(long segmentBytes = 5 * 512)
    {
        var disk = new SimDisk();
        var random = new Random(6);
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments with { SegmentBytes = segmentBytes }, newLogId: 1))
        {
            WalRecord[][] frames =
            [
                [WalRecord.Of(new HardState(1, 2)), Entry(1, 1), Entry(1, 2)],
                [Entry(1, 3), Entry(1, 4), WalRecord.Commit(2)],
                [WalRecord.Of(new HardState(2, 0)), WalRecord.Truncate(4), Entry(2, 4), Entry(2, 5)],
                [WalRecord.SnapshotMarker(new EntryId(3, 20))],
                [Entry(3, 21), Entry(3, 22), WalRecord.Truncate(22), Entry(4, 22)],
                [Entry(4, 23), WalRecord.Commit(21)],
                [Entry(4, 24), Entry(4, 25)],
                [WalRecord.Of(new HardState(5, 1)), WalRecord.Truncate(22), WalRecord.Commit(21)],
                [Entry(5, 22), Entry(5, 23)],
                [WalRecord.Truncate(24), WalRecord.Commit(22), Entry(5, 24)],
            ];
            foreach (var frame in frames)
            {
                log.Append(frame);
                log.Sync();
            }
        }

        Assert.True(TryRead(disk, out var text, out _));
        return (disk, text);

        WalRecord Entry(ulong term, ulong index)
        {
            var payload = new byte[random.Next(0, 500)];
            random.NextBytes(payload);
            return WalRecord.Entry(new EntryId(term, index), EntryKind.Normal, payload);
        }
    }

    /// <summary>Payloads in which a flipped bit makes a sector all zero, if nothing is done against it.</summary>
    private static (SimDisk Disk, string Log) SparseLog()
    {
        var disk = new SimDisk();
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments with { SegmentBytes = 10 * 512 }, newLogId: 1))
        {
            for (var i = 1UL; i <= 2; i++)
            {
                var payload = new byte[1700];
                payload[1000] = 1;
                log.Append([WalRecord.Entry(new EntryId(1, i), EntryKind.Normal, payload)]);
                log.Sync();
            }
        }

        Assert.True(TryRead(disk, out var text, out _));
        return (disk, text);
    }

    private static List<(long End, LogState State)> FrameEnds(
        SimDisk disk, in UsedSegment segment, Action<WalRecord>? sink = null)
    {
        using var file = disk.Open(WalFormat.SegmentName(segment.Id));
        var reader = new SegmentReader(file, segment.Header, new byte[segment.Bytes]);
        reader.Refill();
        var ends = new List<(long, LogState)>();
        var state = segment.Header.Before;
        while (reader.ReadFrame() == FrameStatus.Sound)
        {
            var rest = reader.Payload;
            while (WalRecord.TryDecode(ref rest, out var record))
            {
                state = state.After(record, out _)!.Value;
                sink?.Invoke(record);
            }

            ends.Add((reader.Offset, state));
        }

        return ends;
    }

    /// <summary>All entries, one line each; or why the log was refused.</summary>
    private static bool TryRead(SimDisk disk, out string log, out LogCorruptException refusal)
    {
        (log, refusal) = ("", null!);
        try
        {
            var image = WalRecovery.Inspect(disk);
            var lines = new List<string>();
            WalReplay.Run(disk, image, image.FirstIndex - 1, entries =>
            {
                foreach (ref readonly var entry in entries)
                {
                    lines.Add(Line(entry.Id, entry.Kind, entry.Payload));
                }
            });
            log = string.Join('\n', lines);
            return true;
        }
        catch (LogCorruptException e)
        {
            refusal = e;
            return false;
        }
    }

    private static string Line(EntryId id, EntryKind kind, ReadOnlyMemory<byte> payload) =>
        string.Create(CultureInfo.InvariantCulture, $"{id} {kind} {Crc32C.Compute(payload.Span)}");

    private static void AssertNamesPlace(SimDisk disk, LogCorruptException refusal) =>
        Assert.Matches($@"{disk.Location}/[0-9a-f]{{16}}\.wal at byte \d+: ", refusal.Message);
}
