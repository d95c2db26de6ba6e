using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>
/// What must hold after every step of every scenario: one leader per term, who has all that is committed, logs that agree
/// on (index, term) agree below, committed prefixes agree and are on a quorum's disks, terms and commit indices only grow,
/// one vote per term, no message of a term beyond its sender's, nothing applied that is not durable.
/// </summary>
internal sealed class Checker
{
    private readonly Dictionary<ulong, ulong> _leaders = [];
    private readonly Dictionary<EntryId, (ulong PreviousTerm, LogEntry Entry)> _entries = [];
    private readonly SortedDictionary<ulong, EntryId> _committed = [];
    private readonly Dictionary<ulong, Seen> _seen = [];
    private readonly Dictionary<ulong, Node> _nodes = [];

    /// <summary>Every node of the scenario is here, so a quorum's disks can be looked at.</summary>
    public bool Whole { get; init; }

    public void Boot(Node node, RaftCore core)
    {
        _nodes[node.Id] = node;
        var previous = node.Disk.BeforeFirst.Term;
        foreach (var entry in node.Disk.Log)
        {
            Register(previous, entry);
            previous = entry.Id.Term;
        }

        _seen[node.Id] = new Seen(core.Role, core.Term, core.Vote, core.Commit, node.AppliedIndex);
    }

    public void Persists(Node node, in PersistRequest request)
    {
        if (request.Snapshot is { } snapshot)
        {
            _seen[node.Id] = _seen[node.Id] with { HandedOut = snapshot.Index };
        }

        foreach (var entry in request.Entries.Span)
        {
            if (node.Core.Log.TryTerm(entry.Id.Index - 1, out var previous))
            {
                Register(previous, entry);
            }
        }
    }

    public void HandedToApply(Node node, LogEntry entry)
    {
        var seen = _seen[node.Id];
        Assert.Equal(seen.HandedOut + 1, entry.Id.Index);
        Assert.True(entry.Id.Index <= node.Core.Commit, "handed to apply beyond the commit index");
        Assert.True(node.Disk.Has(entry.Id), $"node {node.Id}: {entry.Id} handed to apply and not durable here");
        _seen[node.Id] = seen with { HandedOut = entry.Id.Index };
    }

    public void Sends(Node node, in Message message)
    {
        Assert.True(message.From == node.Id || message.Type == MessageType.ReadIndex, $"sent for another node: {message}");
        Assert.NotEqual(node.Id, message.To);
        var ahead = message.Type == MessageType.PreVote ? 1UL : 0;
        Assert.True(message.Term <= node.Core.Term + ahead || IsPreVoteGrant(message), $"term beyond the sender's: {message}");
    }

    public void After(Node node)
    {
        var core = node.Core;
        var seen = _seen[node.Id];
        Assert.True(core.Term >= seen.Term, $"node {node.Id}: term {core.Term} after {seen.Term}");
        Assert.True(core.Commit >= seen.Commit, $"node {node.Id}: commit {core.Commit} after {seen.Commit}");
        if (core.Term == seen.Term && seen.Vote != 0)
        {
            Assert.Equal(seen.Vote, core.Vote);
        }

        Assert.False(
            seen.Role == CoreRole.Leader && core.Role is CoreRole.Candidate or CoreRole.PreCandidate && core.Term == seen.Term,
            "a leader does not become a candidate in its own term");
        if (core.Role == CoreRole.Leader)
        {
            Assert.Equal(node.Id, core.Leader);
            Assert.True(_leaders.TryAdd(core.Term, node.Id) || _leaders[core.Term] == node.Id, $"two leaders of term {core.Term}");
            if (seen.Role != CoreRole.Leader)
            {
                AssertHasAllThatIsCommitted(core);
            }
        }

        for (var index = seen.Commit + 1; index <= core.Commit; index++)
        {
            Committed(node, index);
        }

        _seen[node.Id] = seen with { Role = core.Role, Term = core.Term, Vote = core.Vote, Commit = core.Commit };
    }

    private void Committed(Node node, ulong index)
    {
        if (!node.Core.Log.TryTerm(index, out var term))
        {
            return;
        }

        var id = new EntryId(term, index);
        if (_committed.TryGetValue(index, out var known))
        {
            Assert.Equal(known, id);
            return;
        }

        _committed[index] = id;
        if (Whole)
        {
            AssertOnAQuorumsDisks(node.Core.Membership, id);
        }
    }

    private void AssertHasAllThatIsCommitted(RaftCore leader)
    {
        foreach (var id in _committed.Values.Where(id => id.Index >= leader.Log.BeforeFirst.Index))
        {
            Assert.True(leader.Log.TryTerm(id.Index, out var term), $"{id} is committed and not in the leader's log");
            Assert.Equal(id.Term, term);
        }
    }

    private void AssertOnAQuorumsDisks(Membership membership, EntryId id)
    {
        foreach (var half in new[] { membership.Voters, membership.Outgoing })
        {
            var holders = half.Count(voter => !_nodes.TryGetValue(voter, out var node) || node.Disk.Has(id));
            Assert.True(half.Count == 0 || holders > half.Count / 2, $"{id} committed and durable on {holders} of {half.Count}");
        }
    }

    /// <summary>By induction over appends: an (index, term) that always has the same entry and the same previous term means
    /// equal logs below it.</summary>
    private void Register(ulong previousTerm, LogEntry entry)
    {
        if (!_entries.TryAdd(entry.Id, (previousTerm, entry)))
        {
            var known = _entries[entry.Id];
            Assert.Equal(known.PreviousTerm, previousTerm);
            Assert.Equal(known.Entry.Kind, entry.Kind);
            Assert.True(known.Entry.Payload.Span.SequenceEqual(entry.Payload.Span), $"two payloads at {entry.Id}");
        }
    }

    /// <summary>It repeats the term that was asked about.</summary>
    private static bool IsPreVoteGrant(in Message message) => message is { Type: MessageType.PreVoteResponse, Reject: false };

    private sealed record Seen(CoreRole Role, ulong Term, ulong Vote, ulong Commit, ulong HandedOut);
}
