using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>Elections at the edge: who may not campaign, who has left, and what no node of ours would say.</summary>
public sealed class ElectionTests
{
    private static readonly ConfigurationChange Adds9 =
        new(ChangeTransition.Auto, [new NodeChange(MembershipChangeKind.AddLearner, 9, "n9")]);

    /// <summary>Its state machine is busy, with a committed change still to come: the leader is dead, and the third node needs its
    /// vote.</summary>
    [Fact]
    public void WhoMayNotCampaignDoesNotStandInTheWay()
    {
        for (var seed = 0UL; seed < 200; seed++)
        {
            var lone = new Lone(options => options with { Seed = seed });
            _ = lone.Step(new Message
            {
                Type = MessageType.Append,
                From = 2,
                Term = 1,
                Commit = 1,
                Entries = new[] { new LogEntry(new EntryId(1, 1), EntryKind.Configuration, Adds9.Encode()) },
            });
            _ = lone.PersistAll();
            // The longest timeout there is.
            for (var tick = 0; tick < 20; tick++)
            {
                lone.Core.Tick();
                _ = lone.Take();
            }

            _ = lone.Step(new Message { Type = MessageType.PreVote, From = 3, Term = 2, Entry = new EntryId(1, 1) });
            Assert.Contains(lone.Ready.MessagesAfterPersist, static message => message is { Type: MessageType.PreVoteResponse, Reject: false });
        }
    }

    /// <summary>The voter that stays is alone, owes nobody silence, and may be elected at any moment.</summary>
    [Fact]
    public void ALeaderThatHasLeftHasNoLease()
    {
        var cluster = TinyCluster.Led(2, static options => options with { LeaseNanoseconds = 1_000_000_000, ElectionTicks = 50 });
        var leader = cluster[1];
        leader.SetClock(1_000_000);
        _ = leader.ReadIndex(1);
        cluster.Tick(20);
        Assert.True(leader.TryLeaseRead(out _));
        cluster.Drops = message => cluster[2].Membership.Voters.Count == 1;
        var change = new ConfigurationChange(ChangeTransition.Auto, [new NodeChange(MembershipChangeKind.Remove, 1, "")]);
        Assert.Equal(ProposeResult.Accepted, leader.ProposeChange(change, out _, out _));
        cluster.Settle();
        cluster[2].Campaign();
        cluster.Settle();
        Assert.Equal(CoreRole.Leader, cluster[2].Role);
        Assert.Equal(CoreRole.Leader, leader.Role);
        Assert.False(leader.TryLeaseRead(out _));
        Assert.Equal(long.MinValue, leader.LeaseEnd);
    }

    /// <summary>The candidate's term is ahead, and the only node that knows what is committed will never vote in it.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ARefusalOfAnOlderTermTellsWhatIsCommitted(bool isPreVote)
    {
        var type = isPreVote ? MessageType.PreVoteResponse : MessageType.VoteResponse;
        var lone = new Lone();
        _ = lone.Append(3, default, count: 2);
        _ = lone.PersistAll();
        _ = lone.Step(new Message { Type = MessageType.Heartbeat, From = 3, Term = 5 });
        Assert.Equal((5UL, 0UL), (lone.Core.Term, lone.Core.Commit));
        _ = lone.Step(new Message { Type = type, From = 2, Term = 3, Reject = true, Entry = new EntryId(3, 2) });
        Assert.Equal((5UL, 2UL), (lone.Core.Term, lone.Core.Commit));
        // What this log does not have says nothing of it.
        _ = lone.Append(5, new EntryId(3, 2), count: 1, from: 3);
        _ = lone.Step(new Message { Type = type, From = 2, Term = 4, Reject = true, Entry = new EntryId(4, 3) });
        Assert.Equal(2UL, lone.Core.Commit);
    }

    [Fact]
    public void ATermThatNoClusterReachesIsNotTakenOver()
    {
        var leader = Lone.Leader();
        _ = leader.Step(new Message { Type = MessageType.AppendResponse, From = 2, Term = ulong.MaxValue - 1, Reject = true });
        Assert.Equal((CoreRole.Leader, 1UL), (leader.Core.Role, leader.Core.Term));
        _ = leader.Step(new Message { Type = MessageType.AppendResponse, From = 2, Term = 1 + (1UL << 40), Reject = true });
        Assert.Equal((CoreRole.Follower, 1 + (1UL << 40)), (leader.Core.Role, leader.Core.Term));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ASecondLeaderOfATermIsIgnoredWhenItIsNoMember(bool isAppend)
    {
        var type = isAppend ? MessageType.Append : MessageType.Heartbeat;
        var leader = Lone.Leader();
        _ = leader.Step(new Message { Type = type, From = 0x4242, Term = 1 });
        Assert.Equal(CoreRole.Leader, leader.Core.Role);
        var follower = new Lone();
        _ = follower.Append(1, default, count: 1);
        _ = follower.Step(new Message { Type = type, From = 0x4242, Term = 1, Commit = 1 << 20 });
        Assert.Equal(2UL, follower.Core.Leader);
        // A member that says so would be a broken promise of Raft's: nothing may go on.
        _ = Assert.Throws<InvariantException>(() => follower.Step(new Message { Type = type, From = 3, Term = 1 }));
    }

    [Fact]
    public void AQuestionThatIsAnsweredIsNotAskedAgain()
    {
        var cluster = TinyCluster.Led(3);
        var core = cluster[2];
        Assert.True(core.ReadIndex(5));
        var question = Lone.Only(core.TakeReady().Messages, MessageType.ReadIndex, 1);
        core.Tick();
        core.Step(new Message
        {
            Type = MessageType.ReadIndexResponse,
            From = 1,
            To = 2,
            Term = core.Term,
            Context = question.Context,
            Entry = new EntryId(0, 1),
        });
        Assert.DoesNotContain(core.TakeReady().Messages, static message => message.Type == MessageType.ReadIndex);
    }
}
