using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 10 of the scenarios, as far as the core alone decides it.</summary>
public sealed class BeyondTests
{
    [Fact]
    public void X02_AVoteIsAskedForWhenTheTermTheOwnVoteAndAllEarlierWritesAreDurable()
    {
        var node = new Node(1, new Setup { Term = 1 }) { HoldDisk = true };
        node.Receives(Append(2, 1, At(0, 0), [1]));
        node.Campaign();
        node.Receives(PreVoteReply(3, 2));
        Assert.Equal(CoreRole.Candidate, node.Core.Role);

        node.Write(1);
        Assert.DoesNotContain(node.Sent(), message => message.Type == MessageType.Vote);
        node.Write();

        Assert.Equal(new HardState(2, 1), node.Disk.HardState);
        Assert.All(node.Sent(MessageType.Vote), ask => Assert.Equal((2UL, At(1, 1)), (ask.Term, ask.Entry)));
    }

    [Fact]
    public void X02_ACrashBeforeTheWriteLeavesNoTraceOfTheElection()
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };
        node.BecomeCandidate();
        Assert.DoesNotContain(node.Sent(), message => message.Type == MessageType.Vote);

        node.Restart();
        node.Write();
        node.Receives(Vote(2, 1, At(0, 0)));
        node.Write();

        Assert.False(node.SentOne(MessageType.VoteResponse).Reject);
    }

    [Fact]
    public void X03_ManyAppendsAndOneSyncMakeOneAckOfThisLeader()
    {
        var node = new Node(1, new Setup { Term = 1 }) { HoldDisk = true };
        for (var index = 0UL; index < 5; index++)
        {
            node.Receives(Append(2, 1, At(index, index == 0 ? 0UL : 1), [1]));
        }

        node.Disk.WriteAll();
        node.Do(core => core.OnPersisted(node.Disk.Sequence));
        var ack = node.SentOne(MessageType.AppendResponse);
        Assert.Equal((2UL, 5UL), (ack.To, ack.Entry.Index));

        // What the old leader sent is not acked to the new one before that one has vouched for it.
        node.Receives(Append(2, 1, At(5, 1), [1]));
        node.Receives(Append(3, 2, At(3, 1), []));
        node.Write();
        Assert.All(node.Sent(MessageType.AppendResponse), each => Assert.Equal((3UL, 3UL), (each.To, each.Entry.Index)));
    }

    [Fact]
    public void X04_WhatTheOthersCommittedIsAppliedWhenItIsDurableHere()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster[1].HoldDisk = true;

        cluster.Propose(1);
        Assert.Equal((2UL, 1UL, 1UL), (cluster[1].Core.Commit, cluster[1].Core.Durable, cluster[1].AppliedIndex));
        cluster[1].Write();

        Assert.Equal((2UL, 2UL), (cluster[1].Core.Durable, cluster[1].AppliedIndex));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void X05_TheFateOfAProposalIsKnownWhenItsIndexIsApplied(bool reachedTheNextLeader)
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(1);
        if (reachedTheNextLeader)
        {
            cluster.Heal();
            cluster.Lose(MessageType.AppendResponse);
        }

        Assert.Equal(ProposeResult.Accepted, cluster[1].Core.Propose(EntryKind.Normal, "mine"u8.ToArray(), out var id));
        cluster[1].Do(_ => { });
        cluster.Settle();
        Assert.Equal((At(2, 1), 1UL), (id, cluster[1].AppliedIndex));

        cluster.Heal();
        cluster.Isolate(1);
        cluster.Elect(2);
        cluster.Propose(2, "theirs");
        cluster.Heal();
        cluster.Tick(2 * Setup.HeartbeatTicks, 2);

        cluster.AssertEqualLogs();
        var applied = cluster[1].Applied.Single(entry => entry.Id.Index == id.Index);
        Assert.Equal(reachedTheNextLeader, applied.Id == id);
        Assert.Equal(reachedTheNextLeader, cluster[1].Applied.Any(entry => entry.Payload.Span.SequenceEqual("mine"u8)));
    }

    /// <summary>The core's part of it: the clock that the driver reads before and after is the judge.</summary>
    [Fact]
    public void X10_ALeaderThatWasPausedDoesNotServeByItsLease()
    {
        var node = new Node(1, new Setup { LeaseNanoseconds = 900 });
        node.Core.SetClock(0);
        node.BecomeLeader(2, 3);
        node.Tick(Setup.HeartbeatTicks);
        var round = node.Sent().Max(message => message.ReadRound);
        node.Receives(HeartbeatOk(2, 1, round));
        Assert.True(node.Core.TryLeaseRead(out _));

        node.Core.SetClock(1_000_000);
        Assert.False(node.Core.TryLeaseRead(out _));
        node.Receives(HeartbeatOk(3, 1, round));
        Assert.False(node.Core.TryLeaseRead(out _));

        node.Tick(Setup.HeartbeatTicks);
        node.Receives(HeartbeatOk(3, 1, node.Sent().Max(message => message.ReadRound)));
        Assert.True(node.Core.TryLeaseRead(out _));
        node.Do(core => core.TransferLeader(2));
        Assert.False(node.Core.TryLeaseRead(out _));
    }

    /// <summary>The core's part of it: who cannot write resigns, and stays out of the next elections.</summary>
    [Fact]
    public void X11_ALeaderThatCannotWriteResignsAndTheOthersElect()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster[1].HoldDisk = true;
        Assert.Equal(ProposeResult.Accepted, cluster[1].Propose("never durable here"));

        cluster[1].Do(core => core.Resign());
        Assert.Equal((CoreRole.Follower, 0UL), (cluster[1].Core.Role, cluster[1].Core.Leader));
        cluster[1].Tick((2 * Setup.ElectionTicks) - 1);
        Assert.Equal(CoreRole.Follower, cluster[1].Core.Role);
        cluster.Settle();
        cluster.Tick(3 * Setup.ElectionTicks, 2, 3);

        Assert.Contains(cluster.Leader.Id, new[] { 2UL, 3UL });
        Assert.True(cluster.Leader.AppliedIndex >= 3);
    }

    /// <summary>No row of the catalogue: entries that left the leader's memory come from its disk.</summary>
    [Fact]
    public void AFollowerBehindTheLeadersMemoryIsServedFromItsDisk()
    {
        var cluster = new Cluster(3, new Setup { MessageBytesMax = 400 });
        cluster.Elect(1);
        cluster.Isolate(3);
        for (var i = 0; i < 50; i++)
        {
            cluster.Propose(1);
        }

        cluster[1].Core.Log.Evict(50);
        cluster[1].HoldFetches = true;
        cluster.Heal();
        cluster.Tick(Setup.HeartbeatTicks, 1);
        Assert.Equal(1UL, cluster[3].Last);
        Assert.Equal((3UL, 2UL), (cluster[1].Fetches.Single().Peer, cluster[1].Fetches.Single().FirstIndex));
        cluster[1].HoldFetches = false;
        cluster[1].AnswerFetches();
        cluster.Settle();

        cluster.AssertEqualLogs(1, 3);
        Assert.DoesNotContain(cluster.Delivered, message => message.Type == MessageType.InstallSnapshot);
    }

    /// <summary>No row of the catalogue: an election, entries, a read, a change and a transfer when all arrives twice.</summary>
    [Fact]
    public void EveryMessageMayArriveTwice()
    {
        var cluster = new Cluster { Hook = message => [message, message] };
        cluster.Elect(1);
        for (var i = 0; i < 10; i++)
        {
            cluster.Propose(1);
        }

        Assert.True(cluster[2].Read(1));
        cluster.ProposeChange(1, Config.Change(Config.Demote(3), Config.Learner(4)));
        cluster.Tick(Setup.HeartbeatTicks, 1);
        cluster[1].Do(core => core.TransferLeader(2));
        cluster.Settle();
        cluster.Tick(Setup.HeartbeatTicks, 2);

        Assert.Same(cluster[2], cluster.Leader);
        Assert.Equal(new ReadState(1, 11, true), Assert.Single(cluster[2].Reads));
        Assert.All(cluster.Nodes, node => Assert.Equal("1 2|3 4", node.Core.Membership.Line()));
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void X12_AFollowerWithASlowDiskHoldsNobodyUp()
    {
        var cluster = new Cluster(3, new Setup { InflightMessagesMax = 8 });
        cluster.Elect(1);
        cluster[3].HoldDisk = true;
        for (var i = 0; i < 100; i++)
        {
            cluster.Propose(1);
            cluster.Tick(1);
        }

        Assert.Equal((CoreRole.Leader, 1UL), (cluster[1].Core.Role, cluster[1].Core.Term));
        Assert.Equal((101UL, 101UL), (cluster[1].Core.Commit, cluster[2].Last));
        var peer = cluster[1].Peer(3);
        Assert.True(peer.Next - peer.Match <= 8 + 1, "more in flight than the window allows");

        cluster[3].HoldDisk = false;
        cluster[3].Write();
        cluster.Tick(3 * Setup.HeartbeatTicks);
        cluster.AssertEqualLogs();
    }
}
