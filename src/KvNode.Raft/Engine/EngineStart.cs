using System.Runtime.InteropServices;
using System.Security.Cryptography;
using KvNode.Raft.Core;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>From what is on disk to a core that can go on: who the node is, the log, the committed part of it applied.</summary>
internal static class EngineStart
{
    /// <summary>Opens the log; one that was not told of the snapshot that the machine took over last is told now.</summary>
    /// <exception cref="LogCorruptException">It is damaged. Whether it continues the machine's state shows in
    /// <see cref="Replay"/>.</exception>
    public static WriteAheadLog OpenLog(IDisk disk, WalOptions options, IReplicatedStateMachine machine) =>
        OpenLog(disk, options, machine, BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)));

    /// <param name="newLogId">Names the log if it is new; random.</param>
    public static WriteAheadLog OpenLog(IDisk disk, WalOptions options, IReplicatedStateMachine machine, ulong newLogId)
    {
        var log = WriteAheadLog.Open(disk, options, newLogId);
        var durable = machine.Durable;
        var isInLog = log.TryTerm(durable.Index, out var term) && term == durable.Term;
        if (durable == machine.InstalledAt && WalInspector.IsRestartedAt(durable, isInLog, log.Commit))
        {
            // The crash came after a received snapshot was installed and before the log was told, perhaps not even of the
            // snapshot's term. In a term that this node's disk does not know it has given no vote.
            if (log.HardState.Term < durable.Term)
            {
                log.Append([WalRecord.Of(new HardState(durable.Term, 0))]);
            }

            log.Append([WalRecord.SnapshotMarker(durable)]);
            log.Sync();
        }

        return log;
    }

    /// <summary>The first entry of a new cluster: this node alone. Also for a log from before there were clusters.</summary>
    public static void Bootstrap(WriteAheadLog log, ulong node, string address) =>
        BeginAlone(log, node, address, ChangeTransition.Auto);

    /// <summary>Appends, as committed, the configuration of this node alone.</summary>
    public static void BeginAlone(WriteAheadLog log, ulong node, string address, ChangeTransition transition)
    {
        var term = Math.Max(log.HardState.Term, log.Last.Term) + 1;
        var id = new EntryId(term, log.Last.Index + 1);
        var change = new ConfigurationChange(
            transition, [new NodeChange(MembershipChangeKind.AddVoter, node, address)]);
        log.Append([
            WalRecord.Of(new HardState(term, node)),
            WalRecord.Entry(id, EntryKind.Configuration, change.Encode()),
            WalRecord.Commit(id.Index),
        ]);
        log.Sync();
    }

    /// <summary>Applies what is known to be committed, in large pieces.</summary>
    public static void Replay(WriteAheadLog log, EntryId after, ulong through, ApplyStage apply, CancellationToken cancellation)
    {
        var entries = new List<LogEntry>();
        log.Replay(after, through, span =>
        {
            cancellation.ThrowIfCancellationRequested();
            foreach (ref readonly var entry in span)
            {
                entries.Add(new LogEntry(entry.Id, entry.Kind, entry.Payload));
            }

            // The payloads are the sink's caller's: nothing of them is kept.
            Invariant.Check(apply.TryRunHere(CollectionsMarshal.AsSpan(entries)));
            entries.Clear();
        });
    }

    /// <summary>The entry at an index that the log has or begins right after.</summary>
    public static EntryId At(WriteAheadLog log, ulong index)
    {
        Invariant.Check(log.TryTerm(index, out var term));
        return new EntryId(term, index);
    }

    /// <summary>Whether a configuration waits in the log behind an index: then this node is, or was to be, in a cluster.</summary>
    public static bool HasConfiguration(WriteAheadLog log, ulong after)
    {
        var found = false;
        log.Replay(At(log, after), ulong.MaxValue, span =>
        {
            foreach (ref readonly var entry in span)
            {
                found |= entry.Kind == EntryKind.Configuration;
            }
        });
        return found;
    }

    /// <summary>What the core starts from, once everything committed is applied.</summary>
    public static InitialState State(WriteAheadLog log, ulong applied, Membership membership)
    {
        // The newest entry at least, applied or not: it tells where the log ends.
        var first = Math.Max(log.FirstIndex, Math.Min(applied + 1, log.Last.Index));
        var tail = log.LoadTail(first);
        var older = new List<EntryId>();
        foreach (var run in log.CopyTermRuns())
        {
            if (run.Index < first)
            {
                older.Add(run);
            }
        }

        return new InitialState
        {
            HardState = log.HardState,
            Commit = Math.Max(log.Commit, applied),
            Applied = At(log, applied),
            Membership = membership,
            BeforeFirst = log.BeforeFirst,
            OlderTerms = older,
            Tail = tail,
        };
    }
}
