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
