using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>Stories of logs that were cut, restarted and given up from the front.</summary>
public sealed class WalTruncationTests
{
    [Fact]
    public void EntriesThatWereCutOffAreReplacedAcrossSegments()
    {
        var rig = NewRig();
        Fill(rig, 12);
        Assert.True(rig.Log!.ActiveSegment >= 5);
        rig.Append(WalRecord.Of(new HardState(2, 0)), WalRecord.Truncate(4), Entry(4, 2), WalRecord.Commit(3));
        rig.Sync();
        Assert.Equal(new EntryId(2, 4), rig.Log.Last);
        rig.Restart(rig.Disk.AfterPowerLoss(new Random(1)));
        rig.Open();
        Assert.Equal([new EntryId(1, 1), new EntryId(2, 4)], rig.Log.Image.TermRuns);
        Assert.Equal(3UL, rig.Log.Image.Commit);
        rig.Close();
    }

    [Fact]
    public void ALogCutToNothingGoesOnFromItsBeginning()
    {
        var rig = NewRig();
        Fill(rig, 5);
        rig.Append(WalRecord.Truncate(1));
        Assert.Equal(default, rig.Log!.Last);
        rig.Append(Entry(1, 3));
        rig.Sync();
        rig.Restart(rig.Disk.AfterKill());
        rig.Open();
        Assert.Equal([new EntryId(3, 1)], rig.Log.Image.TermRuns);
        rig.Close();
    }

    /// <summary>
    /// The truncation reaches back into a segment that is given up later; what is left must still say where the log begins.
    /// </summary>
    [Fact]
    public void ATruncationIntoASegmentThatIsGoneStillSaysWhereTheLogBegins()
    {
        var rig = NewRig();
        Fill(rig, 6);
        var before = rig.Log!.ActiveSegment;
        rig.Append(WalRecord.Truncate(2));
        for (var i = 2UL; i <= 9; i++)
        {
            rig.Append(Entry(i, 2, 3000));
        }

        rig.Sync();
        for (var index = 1UL; index <= 6; index++)
        {
            rig.Retire(index);
            rig.CheckInspection();
        }

        // The segment that holds entries 5 and 6 of term 1 is gone, the log begins in the middle of term 2.
        Assert.True(WalRecovery.Inspect(rig.Disk).Used[0].Id >= before);
        var image = WalRecovery.Inspect(rig.Disk);
        Assert.Equal(image.BeforeFirst.Index == 1 ? 1UL : 2UL, image.BeforeFirst.Term);
        rig.Restart(rig.Disk.AfterPowerLoss(new Random(1)));
        rig.Open();
        rig.Close();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ASegmentWithVoidEntriesAboveTheRetiredIndexStays(bool reopened)
    {
        var rig = NewRig();
        rig.Append(Entry(1, 1, 100), Entry(2, 1, 100), Entry(3, 1, 100));
        rig.Append(WalRecord.Truncate(2), Entry(2, 2, 100));
        rig.Append(Entry(3, 2, 7000));
        rig.Append(Entry(4, 2, 7000));
        rig.Sync();
        if (reopened)
        {
            rig.Restart(rig.Disk.AfterKill());
            rig.Open();
        }

        Assert.Equal(0, rig.Log!.Retire(2));
        Assert.Equal(2, rig.Log.Retire(3));
        Assert.Equal(4UL, rig.Log.FirstIndex);
        Assert.Equal(4UL, WalRecovery.Inspect(rig.Disk).FirstIndex);
        rig.Close();
    }

    /// <summary>A snapshot ends a diverged tail with higher indexes: its segments go at once, but only when the marker
    /// cannot be lost any more.</summary>
    [Fact]
    public void ADurableSnapshotMarkerFreesAllSegmentsBeforeIt()
    {
        var rig = NewRig();
        Fill(rig, 12);
        rig.Sync();
        rig.Append(WalRecord.SnapshotMarker(new EntryId(5, 7)));
        var ordinary = RetirableUpTo(rig, 7);
        Assert.Equal(ordinary, rig.Log!.Retire(7));
        rig.Sync();
        Assert.Equal(0, rig.Log.Retire(6));
        Assert.True(rig.Log.Retire(7) > 0);
        var image = WalRecovery.Inspect(rig.Disk);
        Assert.Equal((new EntryId(5, 7), new EntryId(5, 7)), (image.BeforeFirst, image.Last));
        _ = Assert.Single(image.Used);
        rig.Append(Entry(8, 5));
        rig.Sync();
        Assert.Equal([new EntryId(5, 8)], WalRecovery.Inspect(rig.Disk).TermRuns);
        rig.Close();
    }

    [Fact]
    public void ASnapshotMarkerThatWasFoundAtTheStartStillFreesTheSegmentsBeforeIt()
    {
        var rig = NewRig();
        Fill(rig, 12);
        rig.Append(WalRecord.SnapshotMarker(new EntryId(5, 7)), Entry(8, 5));
        rig.Sync();
        rig.Restart(rig.Disk.AfterPowerLoss(new Random(3)));
        rig.Open();
        Assert.Equal(new EntryId(5, 7), rig.Log!.Image.BeforeFirst);
        Assert.Equal(rig.Log.ActiveSegment - 1, (ulong)rig.Log.Retire(7));
        rig.CheckInspection();
        rig.Close();
    }

    /// <summary>
    /// Everything that can be left of a marker whose sync did not come back: the old log, or the new one. Nothing else.
    /// </summary>
    [Fact]
    public void PowerLossAroundASnapshotMarkerLeavesTheOldLogOrTheNewOne()
    {
        var seen = new HashSet<EntryId>();
        for (var seed = 0; seed < 60; seed++)
        {
            var rig = NewRig();
            Fill(rig, 6);
            rig.Sync();
            rig.Append(WalRecord.SnapshotMarker(new EntryId(9, 100)), Entry(101, 9, 900), WalRecord.Commit(101));
            rig.Restart(rig.Disk.AfterPowerLoss(new Random(seed)));
            rig.Open();
            _ = seen.Add(rig.Log!.Last);
            rig.Append(WalRecord.SnapshotMarker(new EntryId(9, 101)), Entry(102, 9));
            rig.Sync();
            rig.Restart(rig.Disk.AfterPowerLoss(new Random(seed)));
            rig.Open();
            Assert.Equal(new EntryId(9, 102), rig.Last);
            rig.Close();
        }

        Assert.Equal([new EntryId(1, 6), new EntryId(9, 101)], seen.Order(Comparer<EntryId>.Create(
            static (a, b) => a.Index.CompareTo(b.Index))));
    }

    [Fact]
    public void AMarkerMayBeTheFirstThingInALog()
    {
        var rig = NewRig();
        rig.Append(WalRecord.SnapshotMarker(new EntryId(3, 50)));
        rig.Sync();
        rig.Restart(rig.Disk.AfterPowerLoss(new Random(1)));
        rig.Open();
        var image = rig.Log!.Image;
        Assert.Equal((50UL, 51UL, 50UL), (image.BeforeFirst.Index, image.FirstIndex, image.Commit));
        Assert.True(image.Contains(new EntryId(3, 50)));
        Assert.False(image.Contains(new EntryId(2, 50)));
        rig.Append(Entry(51, 3));
        rig.Close();
    }

    [Fact]
    public void WhatIsDurableGoesBackWithATruncation()
    {
        var rig = NewRig();
        Fill(rig, 4);
        rig.Sync();
        var log = rig.Log!;
        log.Append([WalRecord.Truncate(3), Entry(3, 2)]);
        Assert.Equal(2UL, log.DurableIndex);
        var syncs = rig.Disk.Syncs;
        log.EnsureDurable(2);
        Assert.Equal(syncs, rig.Disk.Syncs);
        log.EnsureDurable(3);
        Assert.Equal((syncs + 1, 3UL), (rig.Disk.Syncs, log.DurableIndex));
        log.Append([WalRecord.SnapshotMarker(new EntryId(2, 9))]);
        Assert.Equal(0UL, log.DurableIndex);
        log.EnsureDurable(9);
        Assert.Equal(9UL, log.DurableIndex);
        log.Dispose();
    }

    [Fact]
    public void TheCommitIndexOutlivesTheSegmentItWasWrittenInAndNeverGoesBack()
    {
        var rig = NewRig();
        Fill(rig, 2);
        rig.Append(WalRecord.Commit(2));
        rig.Append(WalRecord.Commit(1));
        for (var i = 3UL; i <= 9; i++)
        {
            rig.Append(Entry(i, 1, 3000));
        }

        rig.Sync();
        rig.Retire(6);
        rig.Restart(rig.Disk.AfterPowerLoss(new Random(1)));
        rig.Open();
        Assert.Equal(2UL, rig.Log!.Image.Commit);
        Assert.True(rig.Log.FirstIndex > 4);
        rig.Close();
    }

    [Fact]
    public void RecordsThatCannotFollowAreOurBugAndAreNotWritten()
    {
        var rig = NewRig();
        Fill(rig, 5);
        rig.Append(WalRecord.Of(new HardState(4, 1)), WalRecord.Commit(3));
        rig.Sync();
        WalRecord[][] wrong =
        [
            [WalRecord.Truncate(7)],
            [WalRecord.Truncate(3)],
            [WalRecord.Truncate(0)],
            [WalRecord.Commit(6)],
            [WalRecord.SnapshotMarker(new EntryId(1, 2))],
            [WalRecord.SnapshotMarker(new EntryId(4, 9)), WalRecord.Truncate(6)],
            [WalRecord.Of(new HardState(3, 0))],
            [Entry(6, 1), WalRecord.Truncate(6), Entry(7, 1)],
            [WalRecord.Truncate(5), WalRecord.Commit(5)],
            [Entry(6, 0)],
            [WalRecord.Commit(1) with { Payload = new byte[1] }],
            [new WalRecord((RecordKind)6, default, default, default)],
        ];
        var content = rig.Disk.Raw(WalFormat.SegmentName(rig.Log!.ActiveSegment)).ToArray();
        foreach (var records in wrong)
        {
            _ = Assert.Throws<InvariantException>(() => rig.Log.Append(records));
        }

        Assert.Equal(content, rig.Disk.Raw(WalFormat.SegmentName(rig.Log.ActiveSegment)));
        rig.Log.Append([Entry(6, 1)]);
        rig.Log.Append([WalRecord.Truncate(4), Entry(4, 4)]);
        Assert.Equal(new EntryId(4, 4), rig.Log.Last);
        rig.Close();
    }

    [Fact]
    public void NothingGivenUpCanBeCut()
    {
        var rig = NewRig();
        Fill(rig, 9);
        rig.Sync();
        rig.Retire(6);
        var first = rig.Log!.FirstIndex;
        Assert.InRange(first, 3UL, 7UL);
        _ = Assert.Throws<InvariantException>(() => rig.Log.Append([WalRecord.Truncate(first - 1)]));
        rig.Append(WalRecord.Truncate(first));
        Assert.Equal((first - 1, first), (rig.Last.Index, rig.Log.FirstIndex));
        rig.Append(Entry(first, 2));
        rig.Sync();
        rig.CheckInspection();
        rig.Close();
    }

    [Fact]
    public void AReplayEndsWhereItIsToldAndComparesTheTermItStartsAt()
    {
        var rig = NewRig();
        Fill(rig, 6);
        rig.Append(WalRecord.Truncate(5), Entry(5, 2), Entry(6, 2), Entry(7, 2));
        var log = rig.Log!;
        Assert.Equal([3UL, 4, 5], Replayed(log, new EntryId(1, 2), 5));
        Assert.Equal([6UL, 7], Replayed(log, new EntryId(2, 5), ulong.MaxValue));
        Assert.Empty(Replayed(log, new EntryId(2, 7), ulong.MaxValue));
        Assert.Empty(Replayed(log, new EntryId(1, 4), 2));
        _ = Assert.Throws<LogCorruptException>(() => Replayed(log, new EntryId(1, 5), 7));
        _ = Assert.Throws<LogCorruptException>(() => Replayed(log, new EntryId(2, 8), 9));
        Assert.True(log.TryTerm(4, out var term));
        Assert.Equal(1UL, term);
        Assert.False(log.TryTerm(8, out _));
        rig.Close();
    }

    [Fact]
    public void AnInspectionTellsWhatWasReplacedAndForgivesAStoreThatTookOverASnapshot()
    {
        var rig = NewRig();
        Fill(rig, 6);
        rig.Append(WalRecord.Of(new HardState(2, 9)), WalRecord.Truncate(5), Entry(5, 2), WalRecord.Commit(4));
        rig.Sync();
        rig.Close();
        var report = WalInspector.Inspect(rig.Disk, new EntryId(1, 4));
        Assert.True(report.Sound);
        Assert.Equal(new EntryId(2, 5), report.Last);
        Assert.Contains("log: 5 entries, 1 to 5@2, in 7 frames", report.Findings);
        Assert.Contains("log: 2 entries in it were replaced", report.Findings);
        Assert.Contains("log: term 2, vote 9, committed at least to 4", report.Findings);
        var ahead = new EntryId(2, 40);
        Assert.False(WalInspector.Inspect(rig.Disk, ahead).Sound);
        Assert.False(WalInspector.Inspect(rig.Disk, new EntryId(1, 5)).Sound);
        report = WalInspector.Inspect(rig.Disk, ahead, installed: true);
        Assert.True(report.Sound);
        Assert.Contains(
            "log: ends at 5@2, the store took over a snapshot of 40@2: the log restarts there at the next start", report.Findings);
    }

    [Fact]
    public void AStoreThatTookOverASnapshotDoesNotExcuseALogThatHasCommittedMoreAndLostTheBeginning()
    {
        var rig = NewRig();
        rig.Append(WalRecord.SnapshotMarker(new EntryId(1, 10)), Entry(11, 1), Entry(12, 1), WalRecord.Commit(12));
        rig.Sync();
        rig.Close();
        foreach (var position in (EntryId[])[new(1, 4), new(2, 11)])
        {
            var machine = new FakeMachine(position) { InstalledAt = position };
            var report = WalInspector.Inspect(rig.Disk, position, installed: true);
            Assert.False(report.Sound);
            using var log = EngineStart.OpenLog(rig.Disk, WalRig.SmallSegments, machine);
            var refused = Assert.Throws<LogCorruptException>(() => log.Replay(position, static _ => { }));
            Assert.Contains(refused.Message, report.Findings);
            Assert.Equal(new EntryId(1, 12), log.Last);
        }

        // Nothing at all is no snapshot.
        Assert.False(WalInspector.Inspect(rig.Disk, default(EntryId), installed: true).Sound);
    }

    [Fact]
    public void AStartRestartsTheLogAsTheInspectionSaid()
    {
        var rig = NewRig();
        Fill(rig, 6);
        rig.Sync();
        rig.Close();
        var position = new EntryId(3, 40);
        Assert.True(WalInspector.Inspect(rig.Disk, position, installed: true).Sound);
        using (var log = EngineStart.OpenLog(rig.Disk, WalRig.SmallSegments, new FakeMachine(position) { InstalledAt = position }))
        {
            Assert.Equal((position, position, 3ul), (log.Last, log.BeforeFirst, log.HardState.Term));
        }

        var after = WalInspector.Inspect(rig.Disk, position);
        Assert.True(after.Sound);
        Assert.Contains("log: continues the store, which has applied 40@3", after.Findings);
    }

    /// <summary>Segments that an ordinary retirement up to an index may take now.</summary>
    private static int RetirableUpTo(WalRig rig, ulong index)
    {
        var image = WalRecovery.Inspect(rig.Disk);
        return image.Used.TakeWhile(segment => segment.IndexMax <= index && segment != image.Used[^1]).Count();
    }

    private static List<ulong> Replayed(WriteAheadLog log, EntryId after, ulong through)
    {
        var found = new List<ulong>();
        log.Replay(after, through, entries =>
        {
            foreach (ref readonly var entry in entries)
            {
                found.Add(entry.Id.Index);
            }
        });
        return found;
    }

    private static WalRig NewRig()
    {
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Open();
        return rig;
    }

    /// <summary>Entries of term 1, two in a segment.</summary>
    private static void Fill(WalRig rig, ulong through)
    {
        for (var i = 1UL; i <= through; i++)
        {
            rig.Append(Entry(i, 1, 3000));
        }
    }

    private static WalRecord Entry(ulong index, ulong term, int bytes = 50)
    {
        var payload = new byte[bytes];
        new Random((int)((index * 100) + term)).NextBytes(payload);
        return WalRecord.Entry(new EntryId(term, index), EntryKind.Normal, payload);
    }
}
