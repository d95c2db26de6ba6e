using System.Collections.Concurrent;
using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>The log's thread and the one that writes in its place.</summary>
public sealed class PersistStageTests
{
    /// <summary>A lone node's first entry is written by another thread as soon as its campaign's state is durable, while the
    /// log's own thread is on its way back to sleep.</summary>
    [Fact]
    public void TheThreadGoesOnWhenAnotherWritesRightAfterIt()
    {
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
        using var isSyncing = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        using var persisted = new BlockingCollection<ulong>();
        Thread? other = null;
        PersistStage? stage = null;
        stage = new PersistStage(log, new PersistOptions(), sequence =>
        {
            if (sequence == 1)
            {
                disk.Fault = (operation, _) =>
                {
                    if (operation == DiskOperation.SyncData)
                    {
                        isSyncing.Set();
                        goOn.Wait();
                    }
                };
                other = new Thread(() => Assert.True(stage!.TryRunHere(Entry(2), out _)));
                other.Start();
                isSyncing.Wait();
            }

            persisted.Add(sequence);
        });
        var thread = new Thread(stage.Run);
        thread.Start();
        stage.Submit(new PersistRequest { Sequence = 1, HardState = new HardState(1, 0) }, install: null);
        Assert.Equal(1ul, Next(persisted));
        Thread.Sleep(50);
        goOn.Set();
        other!.Join();
        stage.Submit(Entry(3), install: null);
        Assert.Equal(3ul, Next(persisted));
        stage.Close();
        thread.Join();
    }

    /// <summary>Two leaders of one term would be the price: their entries look the same to every check.</summary>
    [Theory]
    [InlineData(Durability.Low)]
    [InlineData(Durability.Medium)]
    [InlineData(Durability.High)]
    public void AVoteSurvivesPowerLossAtEveryDurability(Durability durability)
    {
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
        var stage = new PersistStage(log, new PersistOptions { Durability = durability }, static _ => { });
        stage.Submit(new PersistRequest { Sequence = 1, HardState = new HardState(5, 2) }, install: null);
        Assert.True(stage.TryBegin());
        Assert.True(stage.TryFinish());
        for (var seed = 0; seed < 20; seed++)
        {
            using var again = WriteAheadLog.Open(disk.AfterPowerLoss(new Random(seed)), WalRig.SmallSegments, newLogId: 1);
            Assert.Equal(new HardState(5, 2), again.HardState);
        }
    }

    /// <summary>Elections rest on it: who has a change in its log knows the one before to be committed. Wherever the writing
    /// ends.</summary>
    [Fact]
    public void AChangeIsNeverOnDiskWithoutTheCommitOfTheOneBefore()
    {
        for (var last = 1; last <= 4; last++)
        {
            var disk = new SimDisk();
            using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
            log.Append([WalRecord.Of(new HardState(1, 0)), WalRecord.SnapshotMarker(new EntryId(1, 5))]);
            log.Sync();
            var stage = new PersistStage(log, new PersistOptions { FrameBytesMax = 1 }, static _ => { });
            stage.Submit(
                new PersistRequest { Sequence = 1, Entries = new[] { Change(6, 4), Change(7, 5) }, Commit = 6 }, install: null);
            Assert.True(stage.TryBegin());
            var writes = 0;
            disk.Fault = (operation, _) =>
            {
                writes += operation == DiskOperation.Write ? 1 : 0;
                if (writes == last)
                {
                    disk.Kill();
                }
            };
            _ = Record.Exception(() => stage.TryFinish());
            using var again = WriteAheadLog.Open(disk.AfterKill(), WalRig.SmallSegments, newLogId: 1);
            Assert.True(again.Last.Index < 7 || again.Commit >= 6, $"the log ends at {again.Last}, committed is {again.Commit}");
        }
    }

    /// <summary>The state machine's thread has failed and ends the node: the log must not restart at a state that is not there.</summary>
    [Fact]
    public void ANodeThatFailsInstallsNothing()
    {
        var position = new EntryId(1, 5);
        using var log = WriteAheadLog.Open(new SimDisk(), WalRig.SmallSegments, newLogId: 1);
        log.Append([WalRecord.Of(new HardState(1, 0)), WalRecord.SnapshotMarker(position)]);
        var apply = new ApplyStage(
            new FakeMachine(position), new OutstandingBatches(), EngineState.Decode(default), position.Index, new NodeStart(1, 1), static _ => { });
        var stage = new PersistStage(log, new PersistOptions(), static _ => { });
        stage.Submit(
            new PersistRequest { Sequence = 1, Snapshot = new EntryId(1, 100) },
            () => apply.Replace(100, new EngineState(), static () => Assert.Fail("installed")));
        Assert.True(stage.TryBegin());
        apply.Abandon();
        _ = Assert.Throws<InvalidOperationException>(() => stage.TryFinish());
        Assert.Equal(position, log.BeforeFirst);
    }

    private static LogEntry Change(ulong index, ulong node) => new(
        new EntryId(1, index),
        EntryKind.Configuration,
        new ConfigurationChange(ChangeTransition.Auto, [new NodeChange(MembershipChangeKind.AddVoter, node, "n")]).Encode());

    private static ulong Next(BlockingCollection<ulong> persisted)
    {
        Assert.True(persisted.TryTake(out var sequence, TimeSpan.FromSeconds(10)), "nothing was written any more");
        return sequence;
    }

    /// <summary>Sequence 2 writes entry 1, and so on.</summary>
    private static PersistRequest Entry(ulong sequence) => new()
    {
        Sequence = sequence,
        Entries = new[] { new LogEntry(new EntryId(1, sequence - 1), EntryKind.Empty, default) },
    };
}
