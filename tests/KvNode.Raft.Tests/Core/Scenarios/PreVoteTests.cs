using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 2 of the scenarios: pre-vote and the stickiness of followers. Both are always on.</summary>
public sealed class PreVoteTests
{
    [Fact]
    public void P01_PreVoteKeepsALaggingNodeFromDisturbing()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(3);
        cluster.Propose(1);
        cluster.Heal();
        cluster[1].Do(core => core.ForgetLeader());
        cluster[2].Do(core => core.ForgetLeader());

        cluster.Campaign(3);
        Assert.Contains(cluster.Delivered, reply => reply.Type == MessageType.PreVoteResponse && reply.From == 2 && reply.Reject);
        cluster[3].Receives(PreVoteReply(1, 1, granted: false));

        Assert.Equal((CoreRole.Follower, 1UL), (cluster[3].Core.Role, cluster[3].Core.Term));
        Assert.Equal((CoreRole.Leader, 1UL), (cluster[1].Core.Role, cluster[1].Core.Term));
    }

    [Fact]
    public void P03_FollowersProtectALeaderTheyHear()
    {
        var cluster = new Cluster();
        cluster.Elect(1);

        cluster.Campaign(2);
        cluster.Campaign(2);

        Assert.DoesNotContain(cluster.Delivered, reply => reply.Type == MessageType.PreVoteResponse && reply.To == 2);
        Assert.Same(cluster[1], cluster.Leader);
        Assert.All(cluster.Nodes, node => Assert.Equal(1UL, node.Core.Term));
    }

    [Fact]
    public void P04_AfterAnElectionTimeoutOfSilenceAFollowerGrantsAgain()
    {
        var node = new Node(1, new Setup());
        node.BecomeFollower(2, 1);
        node.Tick(Setup.ElectionTicks - 1);
        node.Receives(PreVote(3, 2, At(0, 0)));
        Assert.Empty(node.Sent());

        node.Tick();
        node.Sent();
        node.Receives(PreVote(3, 2, At(0, 0)));

        var reply = node.SentOne(MessageType.PreVoteResponse);
        Assert.Equal((false, 2UL), (reply.Reject, reply.Term));
    }

    [Fact]
    public void P05_TwoPreCandidatesOfThreeReplaceALiveLeader()
    {
        var cluster = new Cluster();
        cluster.Elect(1);

        cluster.Campaign(3);
        cluster.AssertRoles((1, CoreRole.Leader), (3, CoreRole.PreCandidate));
        cluster.Campaign(2);
        cluster.Tick(Setup.HeartbeatTicks, 2);

        Assert.Same(cluster[2], cluster.Leader);
        Assert.All(cluster.Nodes, node => Assert.Equal((2UL, 2UL), (node.Core.Leader, node.Core.Term)));
    }

    [Fact]
    public void P06_ANodeCutOffDoesNotRaiseTheTerm()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(3);
        cluster.Tick(10 * Setup.ElectionTicks);
        cluster.AssertRoles((1, CoreRole.Leader), (3, CoreRole.PreCandidate));

        cluster.Heal();
        cluster.Tick(2 * Setup.ElectionTicks);

        Assert.Same(cluster[1], cluster.Leader);
        Assert.All(cluster.Nodes, node => Assert.Equal((1UL, 1UL), (node.Core.Leader, node.Core.Term)));
    }

    [Fact]
    public void P07_ADuelOfPreCandidatesLeavesTheLeaderAlone()
    {
        var cluster = new Cluster();
        cluster.Cut(1, 3);
        cluster.Campaign(1);
        cluster.Campaign(3);
        cluster.AssertRoles((1, CoreRole.Leader), (2, CoreRole.Follower), (3, CoreRole.Follower));
        cluster.Propose(1);

        cluster.Heal();
        cluster.Campaign(3);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        cluster.AssertRoles((1, CoreRole.Leader), (2, CoreRole.Follower), (3, CoreRole.Follower));
        Assert.All(cluster.Nodes, node => Assert.Equal(1UL, node.Core.Term));
    }

    [Fact]
    public void P08_AGrantDoesNotRaiseThePreCandidatesTermAndARejectionOfAHigherTermDoes()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1, 2, 3, 4, 5), Term = 4 });
        node.BecomePreCandidate();
        node.Receives(PreVoteReply(2, 5));
        node.Receives(PreVoteReply(4, 4));
        node.Receives(PreVoteReply(5, 6));
        Assert.Equal((CoreRole.PreCandidate, 4UL), (node.Core.Role, node.Core.Term));

        node.Receives(PreVoteReply(3, 7, granted: false));
        Assert.Equal((CoreRole.Follower, 7UL), (node.Core.Role, node.Core.Term));

        var voter = new Node(1, new Setup { Term = 4, Log = [4] });
        voter.Receives(PreVote(2, 5, At(1, 4)));
        Assert.Equal(5UL, voter.SentOne(MessageType.PreVoteResponse).Term);
        voter.Receives(PreVote(2, 5, At(0, 0)));
        var rejection = voter.SentOne(MessageType.PreVoteResponse);
        Assert.Equal((true, 4UL), (rejection.Reject, rejection.Term));
    }

    [Theory]
    [InlineData(CoreRole.Follower)]
    [InlineData(CoreRole.PreCandidate)]
    [InlineData(CoreRole.Candidate)]
    internal void P09_APreVoteRequestOfALowerTermIsRefusedAloud(CoreRole role)
    {
        var node = new Node(1, new Setup { Term = 4 });
        if (role == CoreRole.PreCandidate)
        {
            node.BecomePreCandidate();
        }
        else if (role == CoreRole.Candidate)
        {
            node.BecomeCandidate();
        }

        node.Sent();
        node.Receives(PreVote(2, 2, At(9, 1)));

        var reply = node.SentOne(MessageType.PreVoteResponse);
        Assert.Equal((true, node.Core.Term, 2UL), (reply.Reject, reply.Term, reply.To));
    }

    [Fact]
    public void P10_ANodeOfASmallerTermTakesPartInTheNextElection()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(3);
        cluster.Campaign(3);
        foreach (var target in new[] { 2UL, 1UL })
        {
            cluster.Leader.Do(core => core.TransferLeader(target));
            cluster.Settle();
        }

        Assert.Equal((3UL, 1UL), (cluster[1].Core.Term, cluster[3].Core.Term));

        cluster.Heal();
        cluster.Isolate(1);
        cluster[2].Do(core => core.ForgetLeader());
        cluster.Campaign(3);
        Assert.Equal(3UL, cluster[3].Core.Term);
        cluster.Campaign(2);

        cluster.AssertRoles((2, CoreRole.Leader), (3, CoreRole.Follower));
        cluster.AssertEqualLogs(2, 3);
    }

    [Fact]
    public void P11_ASplitVoteIsOverInTheNextRound()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(1);
        cluster[2].Do(core => core.ForgetLeader());
        cluster[3].Do(core => core.ForgetLeader());

        cluster[2].Campaign();
        cluster[3].Campaign();
        cluster.Settle();
        cluster.AssertRoles((2, CoreRole.Candidate), (3, CoreRole.Candidate));
        Assert.Equal((2UL, 2UL), (cluster[2].Core.Term, cluster[3].Core.Term));
        cluster.Campaign(2);

        cluster.AssertRoles((2, CoreRole.Leader), (3, CoreRole.Follower));
        Assert.Equal((3UL, 3UL), (cluster[2].Core.Term, cluster[3].Core.Term));
    }

    [Fact]
    public void P12_AStickyPeerIgnoresTheFirstPreCandidateAndTwoOfThemElect()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(1);

        cluster.Campaign(3);
        cluster.AssertRoles((2, CoreRole.Follower), (3, CoreRole.PreCandidate));
        cluster.Campaign(2);

        cluster.AssertRoles((2, CoreRole.Leader), (3, CoreRole.Follower));
        Assert.Equal(2UL, cluster[3].Core.Term);
    }

    [Fact]
    public void P14_ALeaderThatHearsAQuorumStays()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2);
        for (var tick = 0; tick <= 3 * Setup.ElectionTicks; tick++)
        {
            node.Receives(HeartbeatOk(2, 1));
            node.Tick();
        }

        Assert.Equal(CoreRole.Leader, node.Core.Role);
    }

    [Fact]
    public void P15_ALeaderThatHearsNobodyStepsDown()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);

        node.Tick(Setup.ElectionTicks - 1);
        Assert.Equal(CoreRole.Leader, node.Core.Role);
        for (var tick = 0; node.Core.Role == CoreRole.Leader; tick++)
        {
            Assert.True(tick <= Setup.ElectionTicks + 1, "still leading");
            node.Tick();
        }

        Assert.Equal((CoreRole.Follower, 1UL, 0UL), (node.Core.Role, node.Core.Term, node.Core.Leader));
    }

    [Fact]
    public void P16_AVoteIsRefusedWhileTheLeaderIsHeard()
    {
        var node = new Node(2, new Setup());
        node.BecomeFollower(1, 1);
        node.Tick(Setup.ElectionTicks - 1);
        node.Receives(Vote(3, 2, At(0, 0)));
        Assert.Empty(node.Sent());
        Assert.Equal((1UL, 1UL), (node.Core.Term, node.Core.Leader));

        node.Tick();
        node.Sent();
        node.Receives(Vote(3, 2, At(0, 0)));

        Assert.False(node.SentOne(MessageType.VoteResponse).Reject);
        Assert.Equal(new HardState(2, 3), node.Disk.HardState);
    }

    [Fact]
    public void P17_TheFirstElectionNeedsNoWait()
    {
        var cluster = new Cluster();

        cluster.Campaign(2);

        Assert.Same(cluster[2], cluster.Leader);
    }

    /// <summary>With pre-vote a node gets ahead in term only by a lost election; here it starts that way.</summary>
    [Fact]
    public void P18_ALeaderMakesWayForAStuckCandidateOfAHigherTerm()
    {
        var fresh = new Setup();
        var cluster = new Cluster((1, fresh), (2, fresh), (3, fresh with { Term = 3 }));
        cluster.Isolate(3);
        cluster.Elect(1);
        cluster.Heal();
        cluster.Campaign(3);
        Assert.Same(cluster[1], cluster.Leader);

        cluster.Tick(Setup.HeartbeatTicks, 1);
        Assert.Equal((CoreRole.Follower, 3UL), (cluster[1].Core.Role, cluster[1].Core.Term));
        cluster.Elect(1);

        cluster.Tick(Setup.HeartbeatTicks, 1);
        Assert.All(cluster.Nodes, node => Assert.Equal((4UL, 1UL), (node.Core.Term, node.Core.Leader)));
    }

    [Fact]
    public void P19_AVoterThatDoesNotKnowOfItselfStillServes()
    {
        var cluster = new Cluster(
            (1, new Setup { Membership = Config.Of(1, 2) }), (2, new Setup { Membership = Config.Of(1) }));

        cluster.Campaign(1);
        cluster.Propose(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Equal((CoreRole.Leader, 1UL), (cluster[1].Core.Role, cluster[2].Core.Leader));
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void P20_AFollowerThatTimedOutJustBeforeTheHeartbeatDisturbsNobody()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Holds = message => message.Type == MessageType.Heartbeat;
        cluster.Tick(Setup.HeartbeatTicks, 1);
        cluster.Campaign(3);
        cluster.AssertRoles((3, CoreRole.PreCandidate));

        cluster.ReleaseHeld();

        cluster.AssertRoles((1, CoreRole.Leader), (3, CoreRole.Follower));
        Assert.All(cluster.Nodes, node => Assert.Equal((1UL, 1UL), (node.Core.Term, node.Core.Leader)));
    }
}
