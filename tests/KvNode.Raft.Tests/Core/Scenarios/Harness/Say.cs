using KvNode.Raft.Core;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Messages as a peer would send them; the receiver is filled in by <see cref="Node.Receives"/>.</summary>
internal static class Say
{
    /// <summary>Entries of these terms after the previous one.</summary>
    public static Message Append(
        ulong from, ulong term, EntryId previous, ulong[] terms, ulong commit = 0, ulong round = 0)
    {
        var entries = new LogEntry[terms.Length];
        for (var i = 0; i < terms.Length; i++)
        {
            entries[i] = Setup.Entry(previous.Index + (ulong)i + 1, terms[i]);
        }

        return AppendEntries(from, term, previous, entries, commit, round);
    }

    public static Message AppendEntries(
        ulong from, ulong term, EntryId previous, LogEntry[] entries, ulong commit = 0, ulong round = 0) => new()
        {
            Type = MessageType.Append,
            From = from,
            Term = term,
            Entry = previous,
            Entries = entries,
            Commit = commit,
            ReadRound = round,
        };

    public static Message AppendOk(ulong from, ulong term, ulong index, ulong round = 0) => new()
    {
        Type = MessageType.AppendResponse,
        From = from,
        Term = term,
        Entry = new EntryId(0, index),
        ReadRound = round,
    };

    public static Message AppendRejected(ulong from, ulong term, ulong previous, EntryId hint) => new()
    {
        Type = MessageType.AppendResponse,
        From = from,
        Term = term,
        Entry = new EntryId(0, previous),
        Reject = true,
        Hint = hint,
    };

    public static Message Heartbeat(ulong from, ulong term, ulong commit = 0, ulong round = 0) => new()
    {
        Type = MessageType.Heartbeat,
        From = from,
        Term = term,
        Commit = commit,
        ReadRound = round,
    };

    public static Message HeartbeatOk(ulong from, ulong term, ulong round = 0) => new()
    {
        Type = MessageType.HeartbeatResponse,
        From = from,
        Term = term,
        ReadRound = round,
    };

    public static Message Vote(ulong from, ulong term, EntryId last, bool force = false) =>
        new() { Type = MessageType.Vote, From = from, Term = term, Entry = last, Force = force };

    public static Message VoteReply(ulong from, ulong term, bool granted = true) =>
        new() { Type = MessageType.VoteResponse, From = from, Term = term, Reject = !granted };

    /// <param name="term">The term that the candidate would campaign in.</param>
    public static Message PreVote(ulong from, ulong term, EntryId last) =>
        new() { Type = MessageType.PreVote, From = from, Term = term, Entry = last };

    public static Message PreVoteReply(ulong from, ulong term, bool granted = true) =>
        new() { Type = MessageType.PreVoteResponse, From = from, Term = term, Reject = !granted };

    public static Message TimeoutNow(ulong from, ulong term) =>
        new() { Type = MessageType.TimeoutNow, From = from, Term = term };

    public static Message Transfer(ulong from, ulong target) =>
        new() { Type = MessageType.TransferLeader, From = from, Context = target };

    public static Message ReadIndex(ulong from, ulong context) =>
        new() { Type = MessageType.ReadIndex, From = from, Context = context };

    /// <summary>Short for an entry's place.</summary>
    public static EntryId At(ulong index, ulong term) => new(term, index);
}
