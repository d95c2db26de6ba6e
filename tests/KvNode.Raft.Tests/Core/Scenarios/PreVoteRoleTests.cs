using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 2 of the scenarios: learners in elections, and forgetting the leader.</summary>
public sealed class PreVoteRoleTests
{
    [Fact]
    public void P21_ALearnerNeverCampaigns()
    {
        var membership = Config.Of(1).WithLearners(2);
        var learner = new Node(2, new Setup { Membership = membership });
        var voter = new Node(1, new Setup { Membership = membership });

        learner.Tick(2 * Setup.ElectionTicks);
        voter.Tick(2 * Setup.ElectionTicks);

        Assert.Equal((CoreRole.Follower, CoreRole.Leader), (learner.Core.Role, voter.Core.Role));
        Assert.Empty(learner.Sent());
    }

    [Fact]
    public void P22_ALearnerVotesWhenAsked()
    {
        var learner = new Node(3, new Setup { Membership = Config.Of(1, 2).WithLearners(3) });

        learner.Receives(PreVote(1, 1, At(0, 0)));
        Assert.False(learner.SentOne(MessageType.PreVoteResponse).Reject);
        learner.Receives(Vote(1, 1, At(0, 0)));

        Assert.False(learner.SentOne(MessageType.VoteResponse).Reject);
        Assert.Equal(new HardState(1, 1), learner.Disk.HardState);
    }

    [Fact]
    public void P23_APromotedLearnerThatHasNotHeardOfItVotesForTheClusterToGoOn()
    {
        var setup = new Setup { Membership = Config.Of(1, 2).WithLearners(3) };
        var cluster = new Cluster((1, setup), (2, setup), (3, setup));
        cluster.Elect(1);
        cluster.Isolate(3);
        cluster.ProposeChange(1, Config.Change(Config.Promote(3)));
        cluster.Tick(Setup.HeartbeatTicks, 1);
        Assert.Equal("1 2|3", cluster[3].Core.Membership.Line());
        Assert.Equal("1 2 3", cluster[2].Core.Membership.Line());

        cluster.Heal();
        cluster.Isolate(1);
        cluster[2].Do(core => core.ForgetLeader());
        cluster[3].Do(core => core.ForgetLeader());
        cluster.Campaign(2);
        cluster.Tick(Setup.HeartbeatTicks, 2);

        Assert.Equal(CoreRole.Leader, cluster[2].Core.Role);
        Assert.Equal("1 2 3", cluster[3].Core.Membership.Line());
        cluster.AssertEqualLogs(2, 3);
    }

    [Theory]
    [InlineData(2UL)]
    [InlineData(4UL)]
    public void P24_AFollowerForgetsItsLeaderUntilTheNextHeartbeat(ulong id)
    {
        var setup = new Setup { Membership = Config.Of(1, 2, 3).WithLearners(4) };
        var node = new Node(id, setup);
        node.BecomeFollower(1, 1);

        node.Do(core => core.ForgetLeader());
        node.Do(core => core.ForgetLeader());
        Assert.Equal((CoreRole.Follower, 1UL, 0UL), (node.Core.Role, node.Core.Term, node.Core.Leader));
        node.Receives(Heartbeat(1, 1));

        Assert.Equal((1UL, 1UL), (node.Core.Term, node.Core.Leader));
    }

    [Fact]
    public void P24_ForgettingChangesNeitherTheElectionClockNorOtherRoles()
    {
        var (forgets, keeps) = (new Node(1, new Setup()), new Node(1, new Setup()));
        forgets.BecomeFollower(2, 1);
        keeps.BecomeFollower(2, 1);
        for (var tick = 0; keeps.Core.Role == CoreRole.Follower; tick++)
        {
            Assert.Equal(CoreRole.Follower, forgets.Core.Role);
            forgets.Do(core => core.ForgetLeader());
            forgets.Tick();
            keeps.Tick();
        }

        Assert.Equal(CoreRole.PreCandidate, forgets.Core.Role);
        forgets.Do(core => core.ForgetLeader());
        Assert.Equal(CoreRole.PreCandidate, forgets.Core.Role);

        var leader = new Node(1, new Setup());
        leader.BecomeLeader();
        leader.Do(core => core.ForgetLeader());
        Assert.Equal((CoreRole.Leader, 1UL), (leader.Core.Role, leader.Core.Leader));
    }

    [Theory]
    [InlineData(1UL, true)]
    [InlineData(0UL, false)]
    public void P25_WhoForgotTheLeaderGrantsAPreVoteToAnUpToDateNode(ulong lastIndex, bool granted)
    {
        var node = new Node(2, new Setup { Term = 1, Log = [1] });
        node.BecomeFollower(1, 1);
        node.Do(core => core.ForgetLeader());

        node.Receives(PreVote(3, 2, At(lastIndex, lastIndex)));

        Assert.Equal(!granted, node.SentOne(MessageType.PreVoteResponse).Reject);
    }

    [Fact]
    public void P26_WithLeaseReadsTheLeaderIsNotForgotten()
    {
        var node = new Node(2, new Setup { LeaseNanoseconds = 900_000_000 });
        node.BecomeFollower(1, 1);

        node.Do(core => core.ForgetLeader());

        Assert.Equal(1UL, node.Core.Leader);
    }
}
