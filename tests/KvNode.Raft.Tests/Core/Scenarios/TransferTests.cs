using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 8 of the scenarios: handing leadership over.</summary>
public sealed class TransferTests
{
    [Fact]
    public void T01_AnUpToDateNodeTakesOverAtOnce()
    {
        var node = LeaderOf(new Setup());
        node.Do(core => core.TransferLeader(2));
        Assert.Equal(2UL, node.SentOne(MessageType.TimeoutNow).To);
        Assert.Equal(2UL, node.Core.TransferTarget);

        var cluster = new Cluster();
        cluster.Elect(1);
        Transfer(cluster, asked: 1, target: 2);

        Assert.Same(cluster[2], cluster.Leader);
        Assert.All(cluster.Nodes, each => Assert.Equal((2UL, 2UL), (each.Core.Leader, each.Core.Term)));
        Assert.DoesNotContain(cluster.Delivered, message => message.Type == MessageType.PreVote && message.From == 2);
        Assert.All(
            cluster.Delivered.Where(message => message.Type == MessageType.Vote && message.From == 2),
            vote => Assert.True(vote.Force));
    }

    [Fact]
    public void T02_AFollowerPassesTheRequestOn()
    {
        var cluster = new Cluster();
        cluster.Elect(1);

        Transfer(cluster, asked: 3, target: 2);

        Assert.Same(cluster[2], cluster.Leader);
        Assert.Contains(cluster.Delivered, message => message is { Type: MessageType.TransferLeader, From: 3, To: 1, Context: 2 });
    }

    [Fact]
    public void T03_ATransferIsNotHeldBackByFollowersThatHearTheLeader()
    {
        var node = new Node(3, new Setup());
        node.BecomeFollower(1, 1);

        node.Receives(Vote(2, 2, At(0, 0), force: true));

        Assert.False(node.SentOne(MessageType.VoteResponse).Reject);
    }

    [Fact]
    public void T04_ASlowFollowerIsCaughtUpFirst()
    {
        var node = LeaderOf(new Setup());
        node.Propose();
        node.Acks(3, 2);
        node.Sent();

        node.Do(core => core.TransferLeader(2));
        Assert.DoesNotContain(node.Sent(), message => message.Type == MessageType.TimeoutNow);
        node.Acks(2, 2);

        Assert.Equal(2UL, node.SentOne(MessageType.TimeoutNow).To);
    }

    [Fact]
    public void T05_AFollowerThatNeedsASnapshotGetsItFirst()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(3);
        cluster.Propose(1);
        cluster[1].Compact(2);
        cluster.Heal();

        cluster[1].Do(core => core.TransferLeader(3));
        cluster.Tick(3 * Setup.HeartbeatTicks, 1);

        Assert.Contains(cluster.Delivered, message => message.Type == MessageType.InstallSnapshot);
        Assert.Same(cluster[3], cluster.Leader);
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(9UL)]
    [InlineData(4UL)]
    public void T06_ATransferToItselfAStrangerOrALearnerHasNoEffect(ulong target)
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1, 2, 3).WithLearners(4) });
        node.BecomeLeader(2, 3, 4);

        node.Do(core => core.TransferLeader(target));

        Assert.Equal(0UL, node.Core.TransferTarget);
        Assert.Empty(node.Sent());
        Assert.Equal(ProposeResult.Accepted, node.Propose());
    }

    [Fact]
    public void T07_ATransferIsGivenUpAfterAnElectionTimeout()
    {
        var node = LeaderOf(new Setup());
        for (var tick = 0; tick < Setup.ElectionTicks / 2; tick++)
        {
            TickHearing2(node);
        }

        node.Do(core => core.TransferLeader(3));
        for (var tick = 0; tick < Setup.ElectionTicks - 1; tick++)
        {
            TickHearing2(node);
        }

        Assert.Equal(3UL, node.Core.TransferTarget);
        TickHearing2(node);

        Assert.Equal((CoreRole.Leader, 0UL), (node.Core.Role, node.Core.TransferTarget));
        Assert.Equal(ProposeResult.Accepted, node.Propose());
    }

    [Fact]
    public void T08_ProposalsDuringATransferAreRefused()
    {
        var node = LeaderOf(new Setup());
        node.Do(core => core.TransferLeader(2));

        Assert.Equal(ProposeResult.Transferring, node.Propose());
        Assert.Equal(ProposeResult.Transferring, node.ProposeChange(Config.Change(Config.Add(4))));

        Assert.Equal(1UL, node.Last);
    }

    [Fact]
    public void T09_AHigherTermEndsATransfer()
    {
        var node = LeaderOf(new Setup());
        node.Do(core => core.TransferLeader(2));
        node.Sent();

        node.Receives(Vote(3, 2, At(1, 1), force: true));

        Assert.False(node.SentOne(MessageType.VoteResponse).Reject);
        Assert.Equal((CoreRole.Follower, 2UL, 0UL), (node.Core.Role, node.Core.Term, node.Core.TransferTarget));
    }

    [Theory]
    [InlineData(MembershipChangeKind.Remove)]
    [InlineData(MembershipChangeKind.Demote)]
    public void T10_ATransferToANodeThatNoLongerVotesIsGivenUp(MembershipChangeKind kind)
    {
        var node = LeaderOf(new Setup());
        node.ProposeChange(Config.Change(new NodeChange(kind, 3, "")));
        node.Do(core => core.TransferLeader(3));
        Assert.Equal(3UL, node.Core.TransferTarget);

        node.Acks(2, 2);

        Assert.False(node.Core.Membership.IsVoter(3));
        Assert.Equal((CoreRole.Leader, 0UL), (node.Core.Role, node.Core.TransferTarget));
        Assert.Equal(ProposeResult.Accepted, node.Propose());
    }

    [Fact]
    public void T11_ATransferToItselfAbortsToAnotherSwitchesAndToTheSameExtendsNothing()
    {
        var node = LeaderOf(new Setup());
        node.Do(core => core.TransferLeader(3));
        node.Do(core => core.TransferLeader(1));
        Assert.Equal(0UL, node.Core.TransferTarget);

        node.Do(core => core.TransferLeader(3));
        node.Do(core => core.TransferLeader(2));
        Assert.Equal(2UL, node.Core.TransferTarget);

        for (var tick = 0; tick < Setup.ElectionTicks; tick++)
        {
            node.Do(core => core.TransferLeader(2));
            TickHearing2(node);
        }

        Assert.Equal((CoreRole.Leader, 0UL), (node.Core.Role, node.Core.TransferTarget));
    }

    [Fact]
    public void T12_TimeoutNowMeansSomethingOnlyToAFollowerThatVotes()
    {
        var pre = new Node(1, new Setup { Term = 1 });
        pre.BecomePreCandidate();
        var candidate = new Node(1, new Setup());
        candidate.BecomeCandidate();
        var learner = new Node(4, new Setup { Term = 1, Membership = Config.Of(1, 2, 3).WithLearners(4) });
        var stranger = new Node(5, new Setup { Term = 1 });
        foreach (var node in new[] { pre, candidate, learner, stranger })
        {
            var before = (node.Core.Role, node.Core.Term);
            node.Sent();

            node.Receives(TimeoutNow(2, node.Core.Term));

            Assert.Equal(before, (node.Core.Role, node.Core.Term));
            Assert.Empty(node.Sent());
        }
    }

    private static Node LeaderOf(Setup setup)
    {
        var node = new Node(1, setup);
        node.BecomeLeader(2, 3);
        return node;
    }

    private static void TickHearing2(Node node)
    {
        node.Receives(HeartbeatOk(2, node.Core.Term));
        node.Tick();
    }

    private static void Transfer(Cluster cluster, ulong asked, ulong target)
    {
        cluster[asked].Do(core => core.TransferLeader(target));
        cluster.Settle();
        cluster.Tick(Setup.HeartbeatTicks, target);
    }
}
