using System.Diagnostics;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Replication;

/// <summary>
/// Runs commands against a view of the store and keeps their counters.
/// </summary>
/// <remarks>Reads may run on any thread, each with its own view and reply buffer; writes run on the apply thread.</remarks>
internal sealed class Executor(CommandTable table, ServerStats stats)
{
    // Timing every command would cost as much as a fast command; one in this many is timed and counted that often.
    private const int TimingSample = 64;

    // The apply thread's scratch.
    private ArgRange[] _applyRanges = new ArgRange[16];
    private ArgRange[] _readRanges = new ArgRange[16];

    // The engine's.
    private ArgRange[] _checkRanges = new ArgRange[16];

    public ServerStats Stats { get; } = stats;

    /// <summary>Runs a read. The gate has found it and checked its arity.</summary>
    public void Read(ReadCommand command, CommandArgs args, KeyspaceView view, RespWriter reply)
    {
        var calls = Interlocked.Increment(ref command.Stats.Calls);
        var began = calls % TimingSample == 0 ? Stopwatch.GetTimestamp() : 0;
        var cx = new ReadContext(args, view, reply);
        command.Run(ref cx);
        CountLookups(cx.Hits, cx.Misses);
        if (began != 0)
        {
            Interlocked.Add(ref command.Stats.Ticks, (Stopwatch.GetTimestamp() - began) * TimingSample);
        }
    }

    /// <summary>
    /// Applies one entry: its writes and, when it was proposed here, the reads that ride on it, in the order the
    /// clients sent them. Apply thread only.
    /// </summary>
    /// <param name="clockMs">The state's clock so far.</param>
    /// <returns>The state's clock from here on: the entry's own time, unless another node's clock was ahead of its
    /// node's. The same on every node, and never going back.</returns>
    public long Apply(ReadOnlySpan<byte> payload, CommandBatch? batch, WriteView view, RespWriter discard, long clockMs)
    {
        var header = EntryHeader.Read(payload);
        clockMs = Math.Max(clockMs, header.LeaderMs);
        var rest = payload[EntryHeader.Bytes..];
        if (batch is null)
        {
            for (var i = 0; i < header.Count; i++)
            {
                discard.Reset();
                ApplyNext(ref rest, view, discard, clockMs);
            }
        }
        else
        {
            RunLocal(ref rest, batch, view, view, clockMs);
        }

        Invariant.Check(rest.IsEmpty, "an entry holds the commands it counts and nothing more", (ulong)rest.Length, 0);
        return clockMs;
    }

    /// <summary>Answers a batch that holds only reads. Apply thread.</summary>
    public void Read(CommandBatch batch, KeyspaceView view)
    {
        var noWrites = ReadOnlySpan<byte>.Empty;
        RunLocal(ref noWrites, batch, view, writes: null, clockMs: 0);
    }

    /// <summary>What would keep another node's payload from being applied; null: nothing. The engine's thread.</summary>
    public string? Check(ReadOnlySpan<byte> payload)
    {
        try
        {
            var count = EntryHeader.Read(payload).Count;
            var rest = payload[EntryHeader.Bytes..];
            for (; count > 0; count--)
            {
                _ = NextWrite(ref rest, ref _checkRanges, out _);
            }

            return rest.IsEmpty ? null : "a batch of writes holds more than the commands it counts";
        }
        catch (Exception e) when (e is InvalidDataException or OverflowException)
        {
            return e.Message;
        }
    }

    private void CountLookups(int hits, int misses)
    {
        if (hits > 0)
        {
            Interlocked.Add(ref Stats.KeyspaceHits, hits);
        }

        if (misses > 0)
        {
            Interlocked.Add(ref Stats.KeyspaceMisses, misses);
        }
    }

    /// <param name="view">What the reads see.</param>
    /// <param name="writes">The same, to write to; null for a batch without writes.</param>
    private void RunLocal(
        ref ReadOnlySpan<byte> rest, CommandBatch batch, KeyspaceView view, WriteView? writes, long clockMs)
    {
        var reads = batch.Reads;
        var replies = batch.Replies;
        var operation = 0;
        for (var r = 0; r < batch.Runs.Length; r++)
        {
            var sink = batch.Runs[r].Sink;
            replies.Protocol = sink.Protocol;
            var open = true;
            for (var i = 0; i < batch.Runs[r].Operations; i++)
            {
                if (replies.Length > Limits.HeldReplyBytes)
                {
                    open = batch.HandOver(r);
                }

                if (!batch.IsRead(operation++))
                {
                    ApplyNext(ref rest, writes!, replies, clockMs);
                }
                else if (open)
                {
                    RunRead(ref reads, sink, view, replies);
                }
                else
                {
                    // The client is gone or was cut off: its further reads are not worth running.
                    SkipRead(ref reads);
                }
            }

            batch.EndRun(r);
        }
    }

    private void ApplyNext(ref ReadOnlySpan<byte> rest, WriteView view, RespWriter reply, long clockMs)
    {
        var command = NextWrite(ref rest, ref _applyRanges, out var args);
        var calls = ++command.Stats.Calls;
        var began = calls % TimingSample == 0 ? Stopwatch.GetTimestamp() : 0;
        var cx = new WriteContext(args, view, reply, clockMs);
        command.Run(ref cx);
        if (began != 0)
        {
            command.Stats.Ticks += (Stopwatch.GetTimestamp() - began) * TimingSample;
        }
    }

    /// <exception cref="InvalidDataException">There is none, or none that this program knows.</exception>
    private WriteCommand NextWrite(ref ReadOnlySpan<byte> rest, ref ArgRange[] ranges, out CommandArgs args)
    {
        if (!CommandReader.TryParse(rest, ref ranges, out args, out var consumed))
        {
            throw new InvalidDataException("a log entry holds a malformed command");
        }

        rest = rest[consumed..];
        return table.TryFind(args[0], out var spec) && spec is WriteCommand command && command.ArityFits(args.Count)
            ? command
            // Skipping what another version wrote would let this node's state differ from the log's.
            : throw new InvalidDataException("a log entry holds a command this program does not know; it is too old for this log");
    }

    private void RunRead(ref ReadOnlySpan<byte> reads, IReplySink sink, KeyspaceView view, RespWriter reply)
    {
        var parsed = CommandReader.TryParse(reads, ref _readRanges, out var args, out var consumed);
        Invariant.Check(parsed, "a read that was accepted parses again");
        reads = reads[consumed..];
        var found = table.TryFind(args[0], out var spec);
        Invariant.Check(found, "a read that was accepted is still known");
        var mark = reply.Length;
        try
        {
            Read((ReadCommand)spec!, args, view, reply);
        }
        catch (ReplyTooLargeException e)
        {
            reply.Truncate(mark);
            sink.CutOff(e.Message);
        }
    }

    private void SkipRead(ref ReadOnlySpan<byte> reads)
    {
        _ = CommandReader.TryParse(reads, ref _readRanges, out _, out var consumed);
        reads = reads[consumed..];
    }
}
