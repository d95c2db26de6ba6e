using KvNode.Raft;
using KvNode.Raft.Core;

namespace KvNode.Simulation;

/// <summary>
/// What all nodes must agree on, as the first of them showed it: who led a term, what stands where in the log, what was
/// committed, what state that gave. Each fact is compared as soon as a second node shows it.
/// </summary>
internal sealed class Ledger
{
    /// <summary>By index: every entry that was ever in a log there.</summary>
    private readonly List<List<Written>> _written = [];

    /// <summary>By index - 1.</summary>
    private readonly List<Committed> _committed = [];

    private readonly Dictionary<ulong, ulong> _leaders = [];
    private readonly Dictionary<ulong, ulong> _executedAt = [];
    private readonly Dictionary<ulong, string> _never = [];

    /// <summary>By index: the state's digest after it, and that of the engine's state; 0 while unknown.</summary>
    private readonly List<(ulong State, ulong Engine)> _digests = [];

    private readonly record struct Written(ulong Term, ulong TermBefore, ulong Content);

    private readonly record struct Committed(ulong Term, ulong Content, ulong ByTerm);

    /// <summary>Last index known to be committed.</summary>
    public ulong Commit => (ulong)_committed.Count;

    public ulong TermOf(ulong index) => index == 0 ? 0 : _committed[(int)index - 1].Term;

    /// <summary>The last index that was committed in a term before this one.</summary>
    public ulong CommittedBefore(ulong term)
    {
        var index = _committed.Count;
        while (index > 0 && _committed[index - 1].ByTerm >= term)
        {
            index--;
        }

        return (ulong)index;
    }

    public bool WasExecuted(ulong batch) => _executedAt.ContainsKey(batch);

    /// <summary>A batch was answered with "certainly not executed".</summary>
    public void OnNever(ulong batch, string answer)
    {
        _never[batch] = answer;
        Expect.That(!_executedAt.ContainsKey(batch), "false denial", $"batch {batch} was executed and answered with {answer}");
    }

    /// <summary>Election safety: one leader for each term.</summary>
    public void OnLeader(ulong node, ulong term)
    {
        if (!_leaders.TryAdd(term, node))
        {
            Expect.That(_leaders[term] == node, "two leaders", $"nodes {_leaders[term]} and {node} lead term {term}");
        }
    }

    /// <summary>Log matching: the same index and term is the same entry after the same term.</summary>
    public void OnWritten(int node, in LogEntry entry, ulong termBefore)
    {
        while (_written.Count <= (int)entry.Id.Index)
        {
            _written.Add([]);
        }

        var content = ContentOf(entry);
        var there = _written[(int)entry.Id.Index];
        foreach (var known in there)
        {
            if (known.Term == entry.Id.Term)
            {
                Expect.That(
                    known.TermBefore == termBefore && known.Content == content,
                    "log matching",
                    $"node {node} has another entry {entry.Id}, or another one before it");
                return;
            }
        }

        there.Add(new Written(entry.Id.Term, termBefore, content));
    }

    /// <summary>State machine safety, at the log: what is committed at an index is the same for all.</summary>
    /// <returns>True when nobody had committed it before.</returns>
    public bool OnCommitted(int node, in LogEntry entry, ulong term)
    {
        var content = ContentOf(entry);
        var index = entry.Id.Index;
        if (index <= Commit)
        {
            var known = _committed[(int)index - 1];
            Expect.That(
                known.Term == entry.Id.Term && known.Content == content,
                "committed prefixes",
                $"node {node} has committed {entry.Id}, where {known.Term} is the term");
            return false;
        }

        Expect.That(index == Commit + 1, "committed prefixes", $"node {node} commits {entry.Id} after {Commit}");
        _committed.Add(new Committed(entry.Id.Term, content, term));
        return true;
    }

    /// <summary>A node says that everything up to a position is committed, without having it entry by entry.</summary>
    public void OnPosition(int node, EntryId position) => Expect.That(
        position.Index == 0 || (position.Index <= Commit && TermOf(position.Index) == position.Term),
        "committed prefixes",
        $"node {node} stands at {position}, which was never committed");

    public void OnApplied(int node, EntryId entry) => Expect.That(
        entry.Index <= Commit && TermOf(entry.Index) == entry.Term,
        "applied uncommitted",
        $"node {node} applies {entry}, which is not committed");

    public void OnInstalled(int node, EntryId position) => OnPosition(node, position);

    /// <summary>Exactly once: a batch has one place in the log where it is executed, and every node executes it there.</summary>
    public void OnExecuted(int node, ulong batch, ulong index)
    {
        if (_never.TryGetValue(batch, out var answer))
        {
            Expect.Fail("false denial", $"batch {batch} is executed at {index} and was answered with {answer}");
        }

        if (!_executedAt.TryAdd(batch, index))
        {
            Expect.That(
                _executedAt[batch] == index,
                "exactly once",
                $"node {node} executes batch {batch} at {index} and not at {_executedAt[batch]}");
        }
    }

    /// <summary>The state after an entry is the same for all. An entry may come in several items: the last one counts.</summary>
    public void OnApplyEnd(int node, ulong index, ulong state, ReadOnlySpan<byte> engineState)
    {
        while (_digests.Count <= (int)index)
        {
            _digests.Add(default);
        }

        var engine = Hash.Of(engineState) | 1;
        var known = _digests[(int)index];
        if (known.Engine == 0)
        {
            _digests[(int)index] = (state, engine);
            return;
        }

        Expect.That(known.State == state, "state digests", $"node {node} has another state at {index}");
        Expect.That(known.Engine == engine, "engine state", $"node {node} has another configuration or session at {index}");
    }

    public static ulong ContentOf(in LogEntry entry) => Hash.Mix(Hash.Of(entry.Payload.Span), (ulong)entry.Kind);
}
