using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>One core of a cluster of three whose peers are played by the test. It is node 1.</summary>
internal sealed class Lone
{
    public Lone(Func<CoreOptions, CoreOptions>? configure = null, InitialState? state = null) =>
        Core = new RaftCore(
            TinyCluster.Options(1, configure),
            state ?? new InitialState { Membership = TinyCluster.VotersTo(3) });

    public RaftCore Core { get; }

    public Ready Ready { get; private set; } = new();

    /// <summary>A leader in term 1 whose no-op is everywhere and applied.</summary>
    public static Lone Leader(Func<CoreOptions, CoreOptions>? configure = null)
    {
        var lone = new Lone(configure);
        lone.Core.Campaign();
        lone.Step(new Message { Type = MessageType.PreVoteResponse, From = 2, Term = 1 });
        lone.PersistAll();
        lone.Step(new Message { Type = MessageType.VoteResponse, From = 2, Term = 1 });
        Assert.Equal(CoreRole.Leader, lone.Core.Role);
        lone.PersistAll();
        lone.Ack(2, 1);
        lone.Ack(3, 1);
        lone.Core.OnApplied(1);
        _ = lone.Take();
        return lone;
    }

    public Ready Take() => Ready = Core.TakeReady();

    public Ready Step(Message message)
    {
        Core.Step(message with { To = 1 });
        return Take();
    }

    /// <summary>Reports everything handed out as durable.</summary>
    public Ready PersistAll()
    {
        Core.OnPersisted(Take().AfterPersistSequence);
        return Take();
    }

    public Ready Ack(ulong from, ulong index, ulong round = 0) => Step(new Message
    {
        Type = MessageType.AppendResponse,
        From = from,
        Term = Core.Term,
        Entry = new EntryId(0, index),
        ReadRound = round,
    });

    public Ready Beat(ulong from, ulong round) => Step(new Message
    {
        Type = MessageType.HeartbeatResponse,
        From = from,
        Term = Core.Term,
        ReadRound = round,
    });

    /// <summary>An Append from node 2 with entries of its term.</summary>
    public Ready Append(ulong term, EntryId previous, int count, ulong commit = 0, ulong from = 2)
    {
        var entries = new LogEntry[count];
        for (var i = 0; i < count; i++)
        {
            entries[i] = new LogEntry(new EntryId(term, previous.Index + (ulong)i + 1), EntryKind.Normal, new byte[4]);
        }

        return Step(new Message
        {
            Type = MessageType.Append,
            From = from,
            Term = term,
            Entry = previous,
            Commit = commit,
            Entries = entries,
        });
    }

    public ulong Propose(int bytes = 8)
    {
        Assert.Equal(ProposeResult.Accepted, Core.Propose(EntryKind.Normal, new byte[bytes], out var id));
        return id.Index;
    }

    public static Message Only(IEnumerable<Message> messages, MessageType type, ulong to) =>
        Assert.Single(messages, message => message.Type == type && message.To == to);
}
