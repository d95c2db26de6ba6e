using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class WalSegmentTests
{
    [Fact]
    public void ANewLogIsEmptyAndHasTwoSegmentsOfZeros()
    {
        var disk = new SimDisk();
        using (var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1))
        {
            Assert.Equal(0UL, log.Last.Index);
            Assert.Equal(1UL, log.FirstIndex);
            Assert.Equal(2 * WalRig.SmallSegments.SegmentBytes, log.Bytes);
        }

        Assert.Equal([WalFormat.SegmentName(1), WalFormat.SegmentName(2)], disk.Names());
        foreach (var name in disk.Names())
        {
            Assert.Equal(new byte[WalRig.SmallSegments.SegmentBytes], disk.Raw(name));
        }
    }

    [Fact]
    public void AFrameThatDoesNotFitBeginsTheNextSegmentAndTheOneAfterIsAlreadyPrepared()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            Append(log, 3000);
            Append(log, 3000);
            Assert.Equal(1UL, log.ActiveSegment);
            Append(log, 3000);
            Assert.Equal(2UL, log.ActiveSegment);
            Assert.Equal(3, disk.Names().Count);
        }
    }

    [Fact]
    public void AFrameLargerThanASegmentGetsASegmentOfItsOwnSize()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            Append(log, 100);
            Append(log, 100_000);
            Assert.Equal(2UL, log.ActiveSegment);
            Assert.InRange(disk.Raw(WalFormat.SegmentName(2)).Length, 100_000, 103_000);
            Append(log, 100);
            Assert.Equal(3UL, log.ActiveSegment);
            log.Sync();
        }

        Assert.Equal(3UL, WalRecovery.Inspect(disk).Last.Index);
    }

    [Fact]
    public void AFirstFrameLargerThanASegmentExtendsTheFirstSegment()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            Append(log, 50_000);
            log.Sync();
            Assert.Equal(1UL, log.ActiveSegment);
        }

        Assert.Equal(1UL, WalRecovery.Inspect(disk).Last.Index);
    }

    [Fact]
    public void RetiredSegmentsAreUsedAgainAfterTheyWereFilledWithZeros()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            for (var i = 0; i < 60; i++)
            {
                Append(log, 2000);
                log.Sync();
                _ = log.Retire(log.Last.Index);
                foreach (var name in disk.Names().Where(name => name.EndsWith(".wal", StringComparison.Ordinal)))
                {
                    var id = Convert.ToUInt64(name[..16], 16);
                    Assert.True(id <= log.ActiveSegment || WalFormat.IsZero(disk.Raw(name)));
                }
            }

            Assert.True(log.FirstIndex > 50);
            Assert.InRange(disk.Names().Count, 2, 5);
            Assert.Equal(disk.Names().Count * WalRig.SmallSegments.SegmentBytes, log.Bytes);
        }
    }

    [Fact]
    public void AtMostTwoSparesAreKeptAndOnlyOfTheOrdinarySize()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            Append(log, 100);
            Append(log, 50_000);
            for (var i = 0; i < 20; i++)
            {
                Append(log, 5000);
            }

            log.Sync();
            Assert.True(log.Retire(log.Last.Index) > 5);
            var spares = disk.Names().Where(name => name.EndsWith(".spare", StringComparison.Ordinal)).ToList();
            Assert.Equal(2, spares.Count);
            Assert.All(spares, name => Assert.Equal(WalRig.SmallSegments.SegmentBytes, disk.Raw(name).Length));
            Assert.Equal(4, disk.Names().Count);
        }
    }

    [Fact]
    public void NothingIsGivenUpThatIsStillNeeded()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            for (var i = 0; i < 12; i++)
            {
                Append(log, 3000);
            }

            log.Sync();
            for (var index = 0UL; index <= 13; index++)
            {
                _ = log.Retire(index);
                Assert.InRange(log.FirstIndex, 1UL, index + 1);
                var image = WalRecovery.Inspect(disk);
                Assert.Equal(12UL, image.Last.Index);
                Assert.Equal(log.FirstIndex, image.FirstIndex);
            }
        }
    }

    [Fact]
    public void TermAndVoteOutliveTheSegmentTheyWereWrittenIn()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            log.Append([WalRecord.Of(new HardState(7, 2))]);
            for (var i = 0; i < 12; i++)
            {
                Append(log, 3000);
            }

            log.Sync();
            _ = log.Retire(10);
            Assert.True(log.FirstIndex > 5);
        }

        using var again = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 9);
        Assert.Equal(new HardState(7, 2), again.HardState);
        Assert.Equal(12UL, again.Last.Index);
    }

    [Fact]
    public void LeftoversOfAnInterruptedPreparationAreRemovedAtStart()
    {
        var (disk, log) = NewLog();
        log.Dispose();
        disk.SetRaw(WalFormat.DraftName(3), new byte[700]);
        disk.SetRaw(WalFormat.SpareName(100), new byte[300]);
        for (var id = 101UL; id < 105; id++)
        {
            var spare = new byte[WalRig.SmallSegments.SegmentBytes];
            new Random(1).NextBytes(spare);
            disk.SetRaw(WalFormat.SpareName(id), spare);
        }

        disk.SetRaw("notes.txt", [1]);
        using (WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 9))
        {
            Assert.Equal(5, disk.Names().Count);
            Assert.Contains("notes.txt", disk.Names());
        }
    }

    [Fact]
    public void EnsureDurableSyncsOnlyWhenItMust()
    {
        var (disk, log) = NewLog();
        using (log)
        {
            Append(log, 10);
            Append(log, 10);
            Assert.True(log.HasUnsynced);
            Assert.Equal(0UL, log.DurableIndex);
            var syncs = disk.Syncs;
            log.EnsureDurable(1);
            Assert.Equal(2UL, log.DurableIndex);
            Assert.False(log.HasUnsynced);
            log.EnsureDurable(2);
            log.EnsureDurable(0);
            log.Sync();
            Assert.Equal(syncs + 1, disk.Syncs);
            _ = Assert.Throws<InvariantException>(() => log.EnsureDurable(3));
        }
    }

    [Fact]
    public void AnEntryThatDoesNotContinueTheLogIsOurBug()
    {
        var (_, log) = NewLog();
        using (log)
        {
            Append(log, 10);
            _ = Assert.Throws<InvariantException>(
                () => log.Append([WalRecord.Entry(new EntryId(1, 3), EntryKind.Normal, default)]));
        }
    }

    [Fact]
    public void ThePreparingThreadKeepsUpOnARealDisk()
    {
        using var directory = new TempDirectory();
        var disk = FileDisk.OpenOrCreate(directory.Path);
        var options = new WalOptions { SegmentBytes = 32 * 1024 };
        using (var log = WriteAheadLog.Open(disk, options, newLogId: 1))
        {
            for (var i = 0; i < 300; i++)
            {
                Append(log, 3000);
                if (i % 10 == 0)
                {
                    log.Sync();
                    _ = log.Retire(log.Last.Index - Math.Min(log.Last.Index, 20));
                }
            }

            log.Sync();
        }

        using var again = WriteAheadLog.Open(disk, options, newLogId: 2);
        Assert.Equal(300UL, again.Last.Index);
        Assert.InRange(disk.List().Length, 3, 10);
    }

    [Fact]
    public void AppendingAllocatesNothing()
    {
        var (_, log) = NewLog(WalRig.SmallSegments with { SegmentBytes = 1 << 20 }, new NullDisk());
        using (log)
        {
            WalRecord[] records = new WalRecord[2];
            var payload = new byte[300];
            // The first rounds may pay for code being compiled again; an allocation per append would be in every one.
            var least = long.MaxValue;
            for (var round = 0; round < 5 && least > 0; round++)
            {
                var before = GC.GetAllocatedBytesForCurrentThread();
                for (var i = 0; i < 200; i++)
                {
                    Next();
                }

                least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            }

            Assert.Equal(0, least);

            void Next()
            {
                records[0] = WalRecord.Entry(new EntryId(1, log.Last.Index + 1), EntryKind.Normal, payload);
                records[1] = WalRecord.Commit(log.Last.Index);
                log.Append(records);
                log.Sync();
            }
        }
    }

    private static (SimDisk Disk, WriteAheadLog Log) NewLog()
    {
        var disk = new SimDisk();
        return (disk, WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1));
    }

    private static (IDisk Disk, WriteAheadLog Log) NewLog(WalOptions options, IDisk disk) =>
        (disk, WriteAheadLog.Open(disk, options, newLogId: 1));

    private static void Append(WriteAheadLog log, int bytes) =>
        log.Append([WalRecord.Entry(new EntryId(1, log.Last.Index + 1), EntryKind.Normal, new byte[bytes])]);
}
