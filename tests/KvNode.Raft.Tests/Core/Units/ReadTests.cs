using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class ReadTests
{
    [Fact]
    public void ReadsOfATurnShareARoundAndLaterOnesJoinTheNext()
    {
        var leader = Lone.Leader();
        Assert.True(leader.Core.ReadIndex(1));
        Assert.True(leader.Core.ReadIndex(2));
        var round = Lone.Only(leader.Take().Messages, MessageType.Heartbeat, 2).ReadRound;
        Assert.True(leader.Core.ReadIndex(3));
        Assert.Equal(round + 1, Lone.Only(leader.Take().Messages, MessageType.Heartbeat, 2).ReadRound);
        // Two are under way: those that come now share the third.
        Assert.True(leader.Core.ReadIndex(4));
        Assert.Empty(leader.Take().Messages);
        Assert.True(leader.Core.ReadIndex(5));
        Assert.Empty(leader.Take().Messages);
        var confirmed = leader.Beat(2, round);
        Assert.Equal([new ReadState(1, 1, true), new ReadState(2, 1, true)], confirmed.Reads);
        Assert.Equal(round + 2, Lone.Only(confirmed.Messages, MessageType.Heartbeat, 3).ReadRound);
        Assert.Empty(leader.Beat(3, round).Reads);
        Assert.Equal([new ReadState(3, 1, true)], leader.Beat(3, round + 1).Reads);
        Assert.Equal([new ReadState(4, 1, true), new ReadState(5, 1, true)], leader.Beat(3, round + 2).Reads);
    }

    [Fact]
    public void UnderWritesARoundRidesOnTheAppends()
    {
        var leader = Lone.Leader();
        _ = leader.Propose();
        _ = leader.Core.ReadIndex(1);
        var messages = leader.Take().Messages;
        Assert.DoesNotContain(messages, static message => message.Type == MessageType.Heartbeat);
        var round = Lone.Only(messages, MessageType.Append, 2).ReadRound;
        Assert.Equal(new ReadState(1, 1, true), Assert.Single(leader.Ack(2, 2, round).Reads));
    }

    [Fact]
    public void ANewLeadersReadsWaitForItsFirstCommit()
    {
        var cluster = TinyCluster.Led(3);
        var dropped = false;
        cluster.Drops = message => dropped && message.Type == MessageType.Append;
        dropped = true;
        cluster[2].Campaign();
        cluster.Settle();
        cluster[1].ForgetLeader();
        cluster[3].ForgetLeader();
        cluster[1].Resign();
        cluster[2].Campaign();
        cluster.Settle();
        Assert.Equal(CoreRole.Leader, cluster[2].Role);
        Assert.False(cluster[2].HasCommittedInTerm);
        Assert.True(cluster[2].ReadIndex(9));
        cluster.Tick(2);
        Assert.Empty(cluster.Nodes[2].Reads);
        dropped = false;
        cluster.Tick(3);
        Assert.Equal(new ReadState(9, 2, true), Assert.Single(cluster.Nodes[2].Reads));
    }

    [Fact]
    public void AFollowersReadIsAnsweredByTheLeaderAlsoWhenAMessageIsLost()
    {
        var cluster = TinyCluster.Led(3);
        Assert.True(cluster[2].ReadIndex(5));
        cluster.Settle();
        Assert.Equal(new ReadState(5, 1, true), Assert.Single(cluster.Nodes[2].Reads));
        cluster.Drops = static message => message.Type is MessageType.ReadIndex or MessageType.ReadIndexResponse;
        Assert.True(cluster[2].ReadIndex(6));
        cluster.Tick(2);
        Assert.Single(cluster.Nodes[2].Reads);
        cluster.Drops = static _ => false;
        cluster.Tick(2);
        Assert.Equal(new ReadState(6, 1, true), cluster.Nodes[2].Reads[^1]);
    }

    [Fact]
    public void OutstandingReadsFailWithTheirLeader()
    {
        var leader = Lone.Leader();
        _ = leader.Core.ReadIndex(1);
        _ = leader.Step(new Message { Type = MessageType.ReadIndex, From = 2, Context = 77 });
        var ready = leader.Step(new Message { Type = MessageType.Heartbeat, From = 3, Term = 2 });
        Assert.Equal([new ReadState(1, 1, false)], ready.Reads);
        Assert.True(Lone.Only(ready.Messages, MessageType.ReadIndexResponse, 2).Reject);
        Assert.True(leader.Core.ReadIndex(2));
        ready = leader.Step(new Message { Type = MessageType.Heartbeat, From = 2, Term = 3 });
        Assert.Equal([new ReadState(2, 0, false)], ready.Reads);
        leader.Core.ForgetLeader();
        Assert.False(leader.Core.ReadIndex(3));
    }

    [Fact]
    public void AQuestionThatWasPassedOnIsAnsweredAcrossTerms()
    {
        var node = new Lone();
        _ = node.Step(new Message { Type = MessageType.Heartbeat, From = 2, Term = 1 });
        _ = node.Core.ReadIndex(4);
        var question = Lone.Only(node.Take().Messages, MessageType.ReadIndex, 2);
        var passing = new Lone(options => options with { NodeId = 2 });
        passing.Core.Step(new Message { Type = MessageType.Heartbeat, From = 3, To = 2, Term = 2 });
        passing.Core.Step(question);
        var passed = Lone.Only(passing.Take().Messages, MessageType.ReadIndex, 3);
        Assert.Equal(1ul, passed.From);
        var ready = node.Step(new Message
        {
            Type = MessageType.ReadIndexResponse,
            From = 3,
            Term = 2,
            Entry = new EntryId(0, 12),
            Context = passed.Context,
        });
        Assert.Equal([new ReadState(4, 12, true)], ready.Reads);
        Assert.Equal(2ul, node.Core.Term);
    }

    [Fact]
    public void AnAnswerToAnEarlierLifeMeansNothing()
    {
        var first = new Lone(options => options with { Seed = 1 });
        var second = new Lone(options => options with { Seed = 2 });
        _ = first.Step(new Message { Type = MessageType.Heartbeat, From = 2, Term = 1 });
        _ = second.Step(new Message { Type = MessageType.Heartbeat, From = 2, Term = 1 });
        _ = first.Core.ReadIndex(4);
        _ = second.Core.ReadIndex(4);
        _ = second.Take();
        var question = Lone.Only(first.Take().Messages, MessageType.ReadIndex, 2);
        var late = new Message
        {
            Type = MessageType.ReadIndexResponse,
            From = 2,
            Term = 1,
            Entry = new EntryId(0, 1),
            Context = question.Context,
        };
        Assert.Empty(second.Step(late).Reads);
        Assert.Single(first.Step(late).Reads);
    }

    [Fact]
    public void ALeaseLastsFromTheSendOfAConfirmedRound()
    {
        var leader = Leased();
        Assert.False(leader.Core.TryLeaseRead(out _));
        leader.Core.SetClock(1000);
        leader.Core.Tick();
        var round = Lone.Only(leader.Take().Messages, MessageType.Heartbeat, 2).ReadRound;
        leader.Core.SetClock(1090);
        _ = leader.Beat(2, round);
        Assert.True(leader.Core.TryLeaseRead(out var index));
        Assert.Equal(1ul, index);
        leader.Core.SetClock(1099);
        Assert.True(leader.Core.TryLeaseRead(out _));
        leader.Core.SetClock(1100);
        Assert.False(leader.Core.TryLeaseRead(out _));
    }

    [Fact]
    public void ALeaseEndsForTheTermWhenAnotherNodeWasToldToCampaign()
    {
        var leader = Leased();
        leader.Core.TransferLeader(2);
        leader.Core.TransferLeader(1);
        Assert.Equal(0ul, leader.Core.TransferTarget);
        leader.Core.Tick();
        _ = leader.Beat(2, Lone.Only(leader.Take().Messages, MessageType.Heartbeat, 2).ReadRound);
        Assert.False(leader.Core.TryLeaseRead(out _));
    }

    [Fact]
    public void WithLeasesARestartedNodeKeepsSilentForATimeout()
    {
        var state = new InitialState { Membership = TinyCluster.VotersTo(3), HardState = new HardState(1, 0) };
        var node = new Lone(static options => options with { LeaseNanoseconds = 100 }, state);
        var request = new Message { Type = MessageType.Vote, From = 2, Term = 2 };
        Assert.True(node.Step(request).IsEmpty);
        for (var tick = 0; tick < 10; tick++)
        {
            node.Core.Tick();
        }

        _ = node.Step(request);
        Assert.Equal(2ul, node.Core.Vote);
    }

    private static Lone Leased()
    {
        var leader = Lone.Leader(static options => options with { LeaseNanoseconds = 100 });
        leader.Core.SetClock(0);
        return leader;
    }
}
