using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 6 of the scenarios: the disk is always behind; requests to it are numbered.</summary>
public sealed class AsyncStorageTests
{
    [Fact]
    public void A01_EachRoundPersistsOnlyWhatIsNewAndAcksWaitForTheirRound()
    {
        var node = new Node(1, new Setup { Term = 1 }) { HoldDisk = true };
        for (var index = 1UL; index <= 3; index++)
        {
            node.Receives(Append(2, 1, At(index - 1, index == 1 ? 0UL : 1), [1]));
        }

        Assert.Equal([1UL, 2, 3], node.Disk.Unwritten.Select(write => write.Sequence));
        Assert.Equal([1UL, 2, 3], node.Disk.Unwritten.Select(write => write.Entries.Span[0].Id.Index));
        Assert.All(node.Disk.Unwritten, write => Assert.Equal(1, write.Entries.Length));
        Assert.Empty(node.Sent());
        for (var index = 1UL; index <= 3; index++)
        {
            node.Write(1);
            Assert.Equal(index, node.SentOne(MessageType.AppendResponse).Entry.Index);
        }
    }

    [Fact]
    public void A02_TheOwnAckCommitsWhileTheEntriesAreStillInMemory()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1) });
        node.BecomeLeader();
        node.HoldDisk = true;
        node.HoldApply = true;
        node.Propose("kept");

        node.Write();

        Assert.Equal((2UL, 2UL), (node.Core.Durable, node.Core.Commit));
        Assert.Equal("kept"u8, Assert.Single(node.ToApply).Payload.Span);
        node.Core.Log.Evict(2);
        Assert.Equal(2UL, node.Core.Log.FirstInMemory);
        node.Apply();
        node.Core.Log.Evict(2);
        Assert.Equal(3UL, node.Core.Log.FirstInMemory);
    }

    [Fact]
    public void A03_AWriteThatLaterOnesVoidedSaysNothingAboutTheSameEntryReplicatedAgain()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1, 2, 3, 4, 5, 6, 7) }) { HoldDisk = true };
        node.Receives(Append(2, 1, At(0, 0), [1]));
        node.Receives(Append(3, 2, At(0, 0), [2]));
        node.Receives(Append(4, 3, At(0, 0), [1, 3]));

        node.Write(1);
        Assert.Equal(At(1, 1), Assert.Single(node.Disk.Log).Id);
        Assert.Equal(0UL, node.Core.Durable);
        Assert.Empty(node.Sent());
        node.Write(1);
        Assert.Empty(node.Sent());

        node.Write();
        Assert.Equal(2UL, node.SentOne(MessageType.AppendResponse).Entry.Index);
        Assert.Equal([At(1, 1), At(2, 3)], node.Disk.Log.Select(entry => entry.Id));
    }

    [Fact]
    public void A04_WhatIsDurableIsKnownAfterATermChangeToo()
    {
        var node = new Node(1, new Setup { Term = 1 }) { HoldDisk = true };
        node.Receives(Append(2, 1, At(0, 0), [1, 1]));
        node.Receives(Heartbeat(3, 2));
        Assert.Equal(0, node.Disk.Unwritten.Last().Entries.Length);

        node.Write();

        Assert.Equal((2UL, 2UL), (node.Core.Durable, node.Core.Log.Last.Index));
        Assert.DoesNotContain(node.Sent(), message => message.To == 2);
    }

    [Fact]
    public void A05_TheNewTermAndItsEntriesAreOneWriteAndTheAckFollowsIt()
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };

        node.Receives(Append(2, 5, At(0, 0), [5, 5]));

        var write = Assert.Single(node.Disk.Unwritten);
        Assert.Equal((new HardState(5, 0), 2), (write.HardState, write.Entries.Length));
        Assert.Empty(node.Sent());
        node.Write();
        Assert.Equal((5UL, 2UL), (node.Outbox.Single().Term, node.Outbox.Single().Entry.Index));
        node.Sent();

        // The entries are durable already; that nothing of older terms will be taken is not.
        node.Receives(Append(3, 6, At(2, 5), []));
        Assert.Empty(node.Sent());
        node.Write();
        Assert.Equal((6UL, 2UL), (node.Outbox.Single().Term, node.Outbox.Single().Entry.Index));
    }

    [Fact]
    public void A06_AVoteIsSentWhenItIsDurable()
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };

        node.Receives(Vote(2, 1, At(0, 0)));
        Assert.Empty(node.Sent());
        Assert.Equal(MessageType.VoteResponse, Assert.Single(node.Withheld).Type);
        node.Write();

        Assert.False(node.SentOne(MessageType.VoteResponse).Reject);
        Assert.Equal(new HardState(1, 2), node.Disk.HardState);
    }

    [Fact]
    public void A07_ANewCommitIndexAloneIsNotWritten()
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1] }) { HoldDisk = true };

        node.Receives(Append(2, 1, At(2, 1), []));
        node.Receives(Heartbeat(2, 1, commit: 2));
        Assert.Equal(2UL, node.Core.Commit);
        Assert.Empty(node.Disk.Unwritten);

        node.Receives(Append(2, 1, At(2, 1), [1], commit: 2));
        Assert.Equal(2UL, Assert.Single(node.Disk.Unwritten).Commit);
    }

    [Fact]
    public void A08_OnlyWhatIsDurableHereIsApplied()
    {
        var node = new Node(1, new Setup { Term = 1 }) { HoldDisk = true };
        node.Receives(Append(2, 1, At(0, 0), [1], commit: 1));
        node.Receives(Append(2, 1, At(1, 1), [1], commit: 2));
        Assert.Equal((2UL, 0UL), (node.Core.Commit, node.AppliedIndex));

        node.Write(1);
        Assert.Equal(1UL, node.AppliedIndex);
        node.Write(1);
        Assert.Equal(2UL, node.AppliedIndex);
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(1UL)]
    [InlineData(2UL)]
    public void A09_ARestartPersistsNothingAndAppliesFromWhereItWas(ulong applied)
    {
        var setup = new Setup { Term = 3, Vote = 2, Commit = 2, Applied = applied, Log = [1, 1, 3] };
        var node = new Node(1, setup) { HoldDisk = true };

        node.Do(_ => { });

        Assert.Equal((3UL, 2UL, 2UL, 3UL), (node.Core.Term, node.Core.Vote, node.Core.Commit, node.Core.Durable));
        Assert.Empty(node.Disk.Unwritten);
        Assert.Equal(2 - (int)applied, node.Applied.Count);
        Assert.Equal(2UL, node.AppliedIndex);
        Assert.Empty(node.Sent());
    }

    [Fact]
    public void A10_ATruncationTakesBackWhatWasBeingWritten()
    {
        var node = new Node(1, new Setup { Term = 1 }) { HoldDisk = true };
        node.Receives(Append(2, 1, At(0, 0), [1, 1, 1]));
        node.Receives(Append(3, 2, At(1, 1), [2, 2]));
        var second = node.Disk.Unwritten.Last();
        Assert.Equal((2UL, 2, At(2, 2)), (second.TruncateFrom, second.Entries.Length, second.Entries.Span[0].Id));

        node.Write(1);
        Assert.Equal(1UL, node.Core.Durable);
        node.Do(core => core.OnPersisted(1));
        Assert.Equal(1UL, node.Core.Durable);
        node.Write(1);

        Assert.Equal(3UL, node.Core.Durable);
        Assert.Equal([1UL, 2, 2], node.Disk.Log.Select(entry => entry.Id.Term));
    }
}
