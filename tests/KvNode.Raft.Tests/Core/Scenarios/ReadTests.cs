using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 7 of the scenarios: linearizable reads by numbered rounds, and by lease.</summary>
public sealed class ReadTests
{
    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    public void L01_AReadIsConfirmedByAQuorumAtTheCommitIndexOfItsArrival(ulong reader)
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Propose(1);

        Assert.True(cluster[reader].Read(77));
        Assert.Empty(cluster[reader].Reads);
        cluster.Settle();
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Equal(new ReadState(77, 2, true), Assert.Single(cluster[reader].Reads));
    }

    [Fact]
    public void L01_AMinorityConfirmsNothing()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1, 2, 3, 4, 5) });
        node.BecomeLeader(2, 3);
        node.Read(1);
        var round = RoundSent(node);

        node.Receives(HeartbeatOk(2, 1, round));
        node.Receives(HeartbeatOk(2, 1, round));
        Assert.Empty(node.Reads);
        node.Receives(HeartbeatOk(3, 1, round));

        Assert.Equal(new ReadState(1, 1, true), Assert.Single(node.Reads));
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    public void L02_ALearnerReadsAndDoesNotConfirm(ulong reader)
    {
        var setup = new Setup { Membership = Config.Of(1).WithLearners(2) };
        var cluster = new Cluster((1, setup), (2, setup));
        cluster.Campaign(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.True(cluster[reader].Read(5));
        cluster.Settle();
        Assert.Equal(new ReadState(5, 1, true), Assert.Single(cluster[reader].Reads));

        var two = new Node(1, new Setup { Membership = Config.Of(1, 2).WithLearners(3) });
        two.BecomeLeader(2, 3);
        two.Read(1);
        two.Receives(HeartbeatOk(3, 1, RoundSent(two)));
        Assert.Empty(two.Reads);
    }

    [Fact]
    public void L03_WithALeaseALeaderAnswersAtOnceWithoutMessages()
    {
        var node = new Node(1, new Setup { LeaseNanoseconds = 900 });
        node.Core.SetClock(1000);
        node.BecomeLeader(2, 3);
        node.Tick(Setup.HeartbeatTicks);
        var round = RoundSent(node);
        node.Core.SetClock(1500);
        node.Receives(HeartbeatOk(2, 1, round));
        node.Sent();

        Assert.True(node.Core.TryLeaseRead(out var index));
        Assert.Equal(1UL, index);
        Assert.Empty(node.Sent());

        // The lease runs from the send of the round, not from its answer.
        node.Core.SetClock(1899);
        Assert.True(node.Core.TryLeaseRead(out _));
        node.Core.SetClock(1900);
        Assert.False(node.Core.TryLeaseRead(out _));
        node.Receives(Heartbeat(2, 2));
        Assert.False(node.Core.TryLeaseRead(out _));
    }

    [Fact]
    public void L05_ANewLeaderDefersReadsUntilAnEntryOfItsTermIsCommitted()
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1], Commit = 2 });
        node.BecomeLeader();
        Assert.False(node.Core.HasCommittedInTerm);

        Assert.True(node.Read(9));
        node.Receives(HeartbeatOk(2, 2, RoundSent(node)));
        Assert.Empty(node.Reads);

        node.Acks(2, 3);
        Assert.True(node.Core.HasCommittedInTerm);
        node.Tick(Setup.HeartbeatTicks);
        node.Receives(HeartbeatOk(2, 2, RoundSent(node)));
        Assert.Equal(new ReadState(9, 3, true), Assert.Single(node.Reads));
    }

    [Fact]
    public void L06_AConfirmedReadIsForgotten()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.Read(1);
        var round = RoundSent(node);

        for (var times = 0; times < 3; times++)
        {
            node.Receives(HeartbeatOk(2, 1, round));
            node.Receives(HeartbeatOk(3, 1, round));
            node.Acks(2, 1);
        }

        Assert.Single(node.Reads);
        node.Receives(Heartbeat(2, 2));
        Assert.Single(node.Reads);
    }

    [Fact]
    public void L07_AnswersToOldRoundsDoNotConfirmNewReads()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.Read(7);
        var old = RoundSent(node);
        node.Receives(HeartbeatOk(2, 1, old));
        Assert.Equal(new ReadState(7, 1, true), Assert.Single(node.Reads));
        node.Propose();
        node.Acks(2, 2);
        node.Acks(3, 2);

        node.Read(7);
        node.Receives(HeartbeatOk(3, 1, old));
        node.Receives(HeartbeatOk(2, 1, old));
        Assert.Single(node.Reads);
        node.Receives(HeartbeatOk(3, 1, RoundSent(node)));

        Assert.Equal(new ReadState(7, 2, true), node.Reads[1]);
    }

    [Fact]
    public void L07_ReadsOfADeposedLeaderFailAndLateAnswersDoNotConfirmThem()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.Read(7);
        var round = RoundSent(node);

        node.Receives(Heartbeat(2, 2));
        Assert.False(Assert.Single(node.Reads).Ok);
        node.Receives(HeartbeatOk(3, 1, round));
        node.BecomeLeader();
        node.Receives(HeartbeatOk(3, 1, round));

        Assert.Single(node.Reads);
    }

    [Fact]
    public void L08_AReadAskedOfAnOldLeaderIsPassedOnToTheNewOne()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Holds = message => message.Type == MessageType.ReadIndex;
        Assert.True(cluster[3].Read(1));
        cluster.Settle();
        cluster.Loses = message => message.Type == MessageType.Heartbeat;
        cluster.Elect(2);
        cluster.ReleaseHeld();
        cluster.Heal();
        cluster.Tick(Setup.HeartbeatTicks, 2);

        Assert.True(cluster[3].Read(2));
        cluster.Settle();
        cluster.Tick(Setup.HeartbeatTicks, 2);

        Assert.Single(cluster[3].Reads, read => read.Context == 1);
        Assert.Contains(new ReadState(2, 2, true), cluster[3].Reads);
        Assert.All(
            cluster.Delivered.Where(message => message.Type == MessageType.ReadIndex),
            message => Assert.Equal(0UL, message.Term));
    }

    [Fact]
    public void L09_AReadWithoutALeaderFailsAtOnce()
    {
        var node = new Node(1, new Setup());

        Assert.False(node.Read(1));

        Assert.Empty(node.Reads);
        Assert.Empty(node.Sent());
    }

    [Fact]
    public void L10_OneAnswerConfirmsEveryReadUpToItsRound()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        for (var context = 1UL; context <= 3; context++)
        {
            node.Read(context);
        }

        node.Tick(Setup.HeartbeatTicks);
        node.Receives(HeartbeatOk(2, 1, RoundSent(node)));

        Assert.Equal([1UL, 2, 3], node.Reads.Select(read => read.Context));
        Assert.All(node.Reads, read => Assert.Equal((1UL, true), (read.Index, read.Ok)));
    }

    [Fact]
    public void L11_InAJointConfigurationBothHalvesConfirm()
    {
        var joint = Config.Of(1, 2, 3).After(Config.Joint(
            Config.Remove(2), Config.Remove(3), Config.Add(4), Config.Add(5)));
        var node = new Node(1, new Setup { Membership = joint });
        node.BecomeLeader(2, 3, 4, 5);
        node.Read(1);
        var round = RoundSent(node);

        node.Receives(HeartbeatOk(2, 1, round));
        node.Receives(HeartbeatOk(3, 1, round));
        Assert.Empty(node.Reads);
        node.Receives(HeartbeatOk(4, 1, round));

        Assert.True(Assert.Single(node.Reads).Ok);
    }

    /// <summary>The newest round among what was sent since the last time.</summary>
    private static ulong RoundSent(Node node) => node.Sent().Select(message => message.ReadRound).DefaultIfEmpty().Max();
}
