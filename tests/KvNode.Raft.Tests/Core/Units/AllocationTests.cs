using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class AllocationTests
{
    [Fact]
    public void ALeaderInSteadyStateAllocatesNothing()
    {
        var leader = Lone.Leader();
        var payload = new byte[100];
        Round(leader.Core, payload, 5000);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Round(leader.Core, payload, 5000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(10_001ul, leader.Core.Commit);
    }

    [Fact]
    public void AFollowerInSteadyStateAllocatesNothing()
    {
        var node = new Lone().Core;
        var entries = new LogEntry[2];
        Follow(node, entries, 5000);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Follow(node, entries, 5000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(20_000ul, node.Durable);
    }

    private static void Round(RaftCore core, byte[] payload, int times)
    {
        for (var i = 0; i < times; i++)
        {
            _ = core.Propose(EntryKind.Normal, payload, out var id);
            _ = core.ReadIndex(id.Index);
            var ready = core.TakeReady();
            var sequence = ready.AfterPersistSequence;
            var round = ready.Messages[0].ReadRound;
            for (var peer = 2ul; peer <= 3; peer++)
            {
                core.Step(new Message
                {
                    Type = MessageType.AppendResponse,
                    From = peer,
                    To = 1,
                    Term = 1,
                    Entry = new EntryId(0, id.Index),
                    ReadRound = round,
                });
            }

            core.OnPersisted(sequence);
            _ = core.TakeReady();
            core.OnApplied(id.Index);
            core.Log.Evict(id.Index);
            core.Log.Compact(id.Index);
        }
    }

    private static void Follow(RaftCore core, LogEntry[] entries, int times)
    {
        for (var i = 0; i < times; i++)
        {
            var last = core.Log.Last;
            for (var n = 0; n < entries.Length; n++)
            {
                entries[n] = new LogEntry(new EntryId(1, last.Index + (ulong)n + 1), EntryKind.Normal, default);
            }

            core.Step(new Message
            {
                Type = MessageType.Append,
                From = 2,
                To = 1,
                Term = 1,
                Entry = last,
                Commit = last.Index,
                Entries = entries,
            });
            core.OnPersisted(core.TakeReady().AfterPersistSequence);
            _ = core.TakeReady();
            core.OnApplied(Math.Min(core.Commit, core.Durable));
            core.Log.Evict(core.Applied);
        }
    }
}
