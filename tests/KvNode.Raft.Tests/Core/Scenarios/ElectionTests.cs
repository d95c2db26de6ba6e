using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 1 of the scenarios, one node at a time. Every election begins with a pre-vote.</summary>
public sealed class ElectionTests
{
    [Fact]
    public void E01_AFreshNodeIsASilentFollower()
    {
        var node = new Node(1, new Setup { Term = 7, Vote = 2 });

        Assert.Equal(CoreRole.Follower, node.Core.Role);
        Assert.Equal(7UL, node.Core.Term);
        Assert.Equal(2UL, node.Core.Vote);
        Assert.Equal(0UL, node.Core.Leader);
        Assert.True(node.Core.TakeReady().IsEmpty);
    }

    [Theory]
    [InlineData(CoreRole.Follower)]
    [InlineData(CoreRole.PreCandidate)]
    [InlineData(CoreRole.Candidate)]
    [InlineData(CoreRole.Leader)]
    internal void E02_ANewerTermMakesAFollower(CoreRole role)
    {
        var node = InRole(role);

        node.Receives(Append(2, 2, At(0, 0), []));

        Assert.Equal(CoreRole.Follower, node.Core.Role);
        Assert.Equal(2UL, node.Core.Term);
        Assert.Equal(2UL, node.Core.Leader);
        Assert.Equal(new HardState(2, 0), node.Disk.HardState);
    }

    [Theory]
    [InlineData(MessageType.VoteResponse)]
    [InlineData(MessageType.AppendResponse)]
    [InlineData(MessageType.HeartbeatResponse)]
    [InlineData(MessageType.TimeoutNow)]
    [InlineData(MessageType.Vote)]
    internal void E03_AnOlderTermChangesNothing(MessageType type)
    {
        foreach (var role in Enum.GetValues<CoreRole>())
        {
            var node = InRole(role, term: 5);
            var (vote, commit) = (node.Core.Vote, node.Core.Commit);
            node.Sent();

            node.Receives(new Message { Type = type, From = 2, Term = node.Core.Term - 1, Entry = At(9, 4) });

            Assert.Equal((role, vote, commit), (node.Core.Role, node.Core.Vote, node.Core.Commit));
            Assert.DoesNotContain(node.Sent(), message => message.To == 2 && !message.Reject);
        }
    }

    [Theory]
    [InlineData(MessageType.Heartbeat)]
    [InlineData(MessageType.Append)]
    internal void E04_TheLeaderOfAnOlderTermIsToldTheNewerOne(MessageType type)
    {
        var node = new Node(1, new Setup { Term = 3, Log = [1] });

        node.Receives(new Message { Type = type, From = 2, Term = 2 });

        var reply = Assert.Single(node.Sent());
        Assert.Equal((MessageType.AppendResponse, 2UL, 3UL), (reply.Type, reply.To, reply.Term));
        Assert.Equal((3UL, 0UL, CoreRole.Follower), (node.Core.Term, node.Core.Leader, node.Core.Role));
    }

    [Fact]
    public void E05_AFollowerThatHearsNothingCampaigns()
    {
        var node = new Node(1, new Setup { Term = 2 });

        Assert.InRange(TicksUntilPreVote(node), Setup.ElectionTicks, (2 * Setup.ElectionTicks) - 1);
        Assert.Equal((2UL, 0UL), (node.Core.Term, node.Core.Vote));
        Assert.Equal([2UL, 3UL], node.Sent(MessageType.PreVote).Where(ask => ask.Term == 3).Select(ask => ask.To));

        node.Receives(PreVoteReply(2, 3));
        Assert.Equal(CoreRole.Candidate, node.Core.Role);
        Assert.Equal((3UL, 1UL), (node.Core.Term, node.Core.Vote));
        Assert.Equal([2UL, 3UL], node.Sent(MessageType.Vote).Where(ask => ask.Term == 3).Select(ask => ask.To));
    }

    [Fact]
    public void E06_ACandidateWithoutAnswerTriesAgain()
    {
        var node = InRole(CoreRole.Candidate);
        node.Sent();

        Assert.InRange(TicksUntilPreVote(node), Setup.ElectionTicks, (2 * Setup.ElectionTicks) - 1);
        node.Receives(PreVoteReply(3, 2));

        Assert.Equal((CoreRole.Candidate, 2UL), (node.Core.Role, node.Core.Term));
        Assert.Equal([2UL, 3UL], node.Sent(MessageType.Vote).Select(ask => ask.To));
    }

    [Theory]
    [InlineData(1, 0, 0, CoreRole.Leader)]
    [InlineData(3, 0, 0, CoreRole.Candidate)]
    [InlineData(3, 1, 0, CoreRole.Leader)]
    [InlineData(3, 0, 1, CoreRole.Candidate)]
    [InlineData(3, 0, 2, CoreRole.Follower)]
    [InlineData(3, 1, 1, CoreRole.Leader)]
    [InlineData(5, 1, 0, CoreRole.Candidate)]
    [InlineData(5, 2, 0, CoreRole.Leader)]
    [InlineData(5, 1, 2, CoreRole.Candidate)]
    [InlineData(5, 2, 2, CoreRole.Leader)]
    [InlineData(5, 0, 3, CoreRole.Follower)]
    [InlineData(5, 1, 3, CoreRole.Follower)]
    internal void E07_OneRoundOfVotesHasOneOutcome(int voters, int grants, int refusals, CoreRole outcome)
    {
        var ids = Enumerable.Range(1, voters).Select(id => (ulong)id).ToArray();
        var node = new Node(1, new Setup { Membership = Config.Of(ids) }) { HoldDisk = true };
        node.Campaign();
        for (var peer = 2UL; node.Core.Role == CoreRole.PreCandidate; peer++)
        {
            node.Receives(PreVoteReply(peer, 1));
        }

        Assert.Equal(CoreRole.Candidate, node.Core.Role);
        node.Write();
        for (var i = 0; i < grants + refusals; i++)
        {
            node.Receives(VoteReply((ulong)i + 2, 1, granted: i >= refusals));
        }

        Assert.Equal((outcome, 1UL), (node.Core.Role, node.Core.Term));
    }

    [Theory]
    [InlineData(0UL, 2UL, true)]
    [InlineData(0UL, 1UL, true)]
    [InlineData(2UL, 2UL, true)]
    [InlineData(1UL, 1UL, true)]
    [InlineData(2UL, 1UL, false)]
    [InlineData(1UL, 2UL, false)]
    public void E08_OneVotePerTermFirstComeFirstServed(ulong vote, ulong asks, bool granted)
    {
        var node = new Node(3, new Setup { Term = 1, Vote = vote });

        for (var times = 0; times < 2; times++)
        {
            node.Receives(Vote(asks, 1, At(0, 0)));
            Assert.Equal(!granted, node.SentOne(MessageType.VoteResponse).Reject);
        }

        Assert.Equal(granted ? asks : vote, node.Disk.HardState.Vote);
    }

    [Theory]
    [InlineData(MessageType.Append, 1UL)]
    [InlineData(MessageType.Append, 2UL)]
    [InlineData(MessageType.Heartbeat, 1UL)]
    [InlineData(MessageType.Heartbeat, 2UL)]
    internal void E09_ACandidateYieldsToALeader(MessageType type, ulong term)
    {
        var node = InRole(CoreRole.Candidate);

        node.Receives(new Message { Type = type, From = 3, Term = term });

        Assert.Equal((CoreRole.Follower, term, 3UL), (node.Core.Role, node.Core.Term, node.Core.Leader));
    }

    [Theory]
    [InlineData(CoreRole.Follower)]
    [InlineData(CoreRole.Candidate)]
    internal void E10_TheTimeoutIsDrawnAnewEachTime(CoreRole role)
    {
        const int Rounds = 50 * Setup.ElectionTicks;
        var node = role == CoreRole.Candidate ? InRole(role) : new Node(1, new Setup());
        var waits = new int[2 * Setup.ElectionTicks];
        for (var round = 0; round < Rounds; round++)
        {
            node.Sent();
            waits[TicksUntilPreVote(node)]++;
            if (role == CoreRole.Follower)
            {
                node.Receives(Heartbeat(2, 1));
                node.Do(core => core.ForgetLeader());
            }
        }

        Assert.All(waits[..Setup.ElectionTicks], count => Assert.Equal(0, count));
        Assert.All(waits[Setup.ElectionTicks..], count => Assert.True(count > 0));
        foreach (var (within, share) in new[] { (10, .1), (13, .4), (15, .6), (18, .9), (19, 1) })
        {
            Assert.Equal(share, waits[..(within + 1)].Sum() / (double)Rounds, 0.08);
        }
    }

    [Fact]
    public void E11_TimeoutsOfFiveNodesRarelyCollide()
    {
        const int Rounds = 1000;
        var collisions = 0;
        for (var round = 0; round < Rounds; round++)
        {
            var setup = new Setup { Membership = Config.Of(1, 2, 3, 4, 5), Seed = (ulong)round };
            var waits = Enumerable.Range(1, 5).Select(id => TicksUntilPreVote(new Node((ulong)id, setup))).ToArray();
            collisions += waits.Count(wait => wait == waits.Min()) > 1 ? 1 : 0;
        }

        Assert.InRange(collisions, 0, Rounds * 3 / 10);
    }

    [Fact]
    public void E12_AVoteRequestSaysWhereTheLogEnds()
    {
        var node = new Node(1, new Setup { Term = 4, Log = [1, 1, 3] });

        node.Campaign();
        Assert.All(node.Sent(MessageType.PreVote), ask => Assert.Equal(At(3, 3), ask.Entry));
        node.Receives(PreVoteReply(2, 5));
        var asks = node.Sent(MessageType.Vote);

        Assert.Equal([2UL, 3UL], asks.Select(ask => ask.To));
        Assert.All(asks, ask => Assert.Equal(At(3, 3), ask.Entry));
    }

    [Theory]
    [InlineData(new ulong[] { 1 }, 1UL, 1UL, true)]
    [InlineData(new ulong[] { 1 }, 2UL, 1UL, true)]
    [InlineData(new ulong[] { 1, 1 }, 1UL, 1UL, false)]
    [InlineData(new ulong[] { 1 }, 1UL, 2UL, true)]
    [InlineData(new ulong[] { 1 }, 2UL, 2UL, true)]
    [InlineData(new ulong[] { 1, 1 }, 1UL, 2UL, true)]
    [InlineData(new ulong[] { 2 }, 1UL, 1UL, false)]
    [InlineData(new ulong[] { 2 }, 2UL, 1UL, false)]
    [InlineData(new ulong[] { 2, 2 }, 1UL, 1UL, false)]
    [InlineData(new ulong[] { 1, 2 }, 9UL, 1UL, false)]
    public void E13_ItVotesOnlyForALogAtLeastAsNewAsItsOwn(ulong[] log, ulong lastIndex, ulong lastTerm, bool granted)
    {
        var node = new Node(1, new Setup { Term = 2, Log = log });

        node.Receives(PreVote(2, 3, At(lastIndex, lastTerm)));
        Assert.Equal(!granted, node.SentOne(MessageType.PreVoteResponse).Reject);
        node.Receives(Vote(2, 3, At(lastIndex, lastTerm)));

        Assert.Equal(!granted, node.SentOne(MessageType.VoteResponse).Reject);
        Assert.Equal((3UL, granted ? 2UL : 0), (node.Core.Term, node.Core.Vote));
    }

    /// <summary>A leader, and a follower that hears one, answer only a transfer's vote request: P03, P16.</summary>
    [Theory]
    [InlineData(CoreRole.Follower)]
    [InlineData(CoreRole.PreCandidate)]
    [InlineData(CoreRole.Candidate)]
    [InlineData(CoreRole.Leader)]
    internal void E14_EveryRoleVotesForAGoodLogInANewerTerm(CoreRole role)
    {
        var node = InRole(role);
        var (term, vote) = (node.Core.Term, node.Core.Vote);
        node.Sent();
        if (role != CoreRole.Leader)
        {
            node.Receives(PreVote(2, term + 1, At(9, term)));
            var reply = node.SentOne(MessageType.PreVoteResponse);
            Assert.Equal((false, term + 1), (reply.Reject, reply.Term));
            Assert.Equal((role, term, vote), (node.Core.Role, node.Core.Term, node.Core.Vote));
        }

        node.Receives(Vote(2, term + 1, At(9, term), force: role == CoreRole.Leader));

        Assert.False(node.SentOne(MessageType.VoteResponse).Reject);
        Assert.Equal((CoreRole.Follower, new HardState(term + 1, 2)), (node.Core.Role, node.Disk.HardState));
    }

    [Fact]
    public void E17_ASingleVoterElectsItselfWhenItsOwnVoteIsDurable()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1), Term = 1 }) { HoldDisk = true };
        node.Receives(Append(2, 1, At(0, 0), [1]));

        node.Campaign();
        Assert.Equal((CoreRole.Candidate, 2), (node.Core.Role, node.Disk.Unwritten.Count));
        node.Write(1);
        Assert.Equal(CoreRole.Candidate, node.Core.Role);
        node.Write(1);

        Assert.Equal((CoreRole.Leader, 2UL), (node.Core.Role, node.Core.Term));
    }

    [Fact]
    public void E21_ALeaderDoesNotCampaign()
    {
        var node = InRole(CoreRole.Leader);
        node.Sent();

        node.Campaign();

        Assert.Equal((CoreRole.Leader, 1UL), (node.Core.Role, node.Core.Term));
        Assert.Empty(node.Sent());
    }

    /// <summary>The transitions have no names outside the core; here every input meets every role, and only these are seen.</summary>
    [Fact]
    public void E22_OnlyAllowedChangesOfRoleAreSeen()
    {
        (CoreRole, CoreRole)[] allowed =
        [
            (CoreRole.Follower, CoreRole.PreCandidate), (CoreRole.Follower, CoreRole.Candidate),
            (CoreRole.PreCandidate, CoreRole.Candidate), (CoreRole.PreCandidate, CoreRole.Follower),
            (CoreRole.Candidate, CoreRole.PreCandidate), (CoreRole.Candidate, CoreRole.Leader),
            (CoreRole.Candidate, CoreRole.Follower), (CoreRole.Leader, CoreRole.Follower),
        ];
        var seen = new HashSet<(CoreRole, CoreRole)>();
        foreach (var role in Enum.GetValues<CoreRole>())
        {
            foreach (var input in EveryInput())
            {
                var node = InRole(role, term: 1);
                input(node);
                if (node.Core.Role != role)
                {
                    seen.Add((role, node.Core.Role));
                }
            }
        }

        Assert.Equal(allowed.Order(), seen.Order());
    }

    [Theory]
    [InlineData(CoreRole.Follower)]
    [InlineData(CoreRole.PreCandidate)]
    [InlineData(CoreRole.Candidate)]
    [InlineData(CoreRole.Leader)]
    internal void E23_AHigherTermStepsDownAndOnlyALeadersMessageNamesTheLeader(CoreRole role)
    {
        foreach (var type in new[] { MessageType.Vote, MessageType.Append, MessageType.Heartbeat, MessageType.InstallSnapshot })
        {
            var node = InRole(role);
            node.Receives(new Message
            {
                Type = type,
                From = 2,
                Term = 3,
                Force = type == MessageType.Vote,
                Membership = node.Core.Membership.Encode(),
            });

            Assert.Equal((CoreRole.Follower, 3UL), (node.Core.Role, node.Core.Term));
            Assert.Equal(type == MessageType.Vote ? 0UL : 2UL, node.Core.Leader);
        }
    }

    private static Node InRole(CoreRole role, ulong term = 0)
    {
        var node = new Node(1, new Setup { Term = term });
        switch (role)
        {
            case CoreRole.PreCandidate:
                node.BecomePreCandidate();
                break;
            case CoreRole.Candidate:
                node.BecomeCandidate();
                break;
            case CoreRole.Leader:
                node.BecomeLeader();
                break;
            default:
                break;
        }

        return node;
    }

    private static int TicksUntilPreVote(Node node)
    {
        for (var ticks = 1; ticks < 3 * Setup.ElectionTicks; ticks++)
        {
            node.Tick();
            if (node.Outbox.Any(message => message.Type == MessageType.PreVote))
            {
                return ticks;
            }
        }

        throw new InvalidOperationException("no election timeout");
    }

    private static IEnumerable<Action<Node>> EveryInput()
    {
        yield return node => node.Campaign();
        yield return node => node.Do(core => core.Resign());
        yield return node => node.Do(core => core.ForgetLeader());
        yield return node => node.Do(core => core.TransferLeader(2));
        yield return node => node.Tick((2 * Setup.ElectionTicks) - 1);
        yield return node => node.Receives(TimeoutNow(2, node.Core.Term));
        yield return node => node.Receives(PreVoteReply(2, node.Core.Term + 1));
        yield return node => node.Receives(VoteReply(2, node.Core.Term));
        yield return node => node.Receives(Vote(2, node.Core.Term + 1, At(9, 9), force: true));
        yield return node => node.Receives(Heartbeat(2, node.Core.Term + 1));
        yield return node => node.Receives(Append(2, node.Core.Term + 1, At(0, 0), [node.Core.Term + 1]));
    }
}
