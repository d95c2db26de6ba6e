using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>Keys by pattern, in byte order.</summary>
internal static class ScanCommands
{
    // One stretch of PDEL: keys are copied out before they are deleted, since a write ends what a cursor has lent.
    private const int DeleteKeysMax = 1024;
    private const int DeleteBytesMax = 256 * 1024;

    public static CommandSpec[] Table { get; } =
    [
        new StreamCommand("KEYS", -2, KeySpec.None, CommandFlags.Slow | CommandFlags.AnyKey, "generic",
            "Returns the keys that match a pattern, in byte order, from behind the pivot on.", KeysAsync)
        {
            Syntax = "pattern [PIVOT pivot] [LIMIT count] [DESC] [WITHVALUES]",
            Complexity = "O(N) where N is the number of keys that begin with the pattern's literal beginning.",
            Acl = AclCategories.Keyspace | AclCategories.Dangerous,
            Tips = ["request_policy:all_shards"],
            Check = KeysOptionsFit,
        },
        new WriteCommand("PDEL", 2, KeySpec.None, CommandFlags.Slow | CommandFlags.AnyKey, "generic",
            "Deletes the keys that match a pattern, in one atomic step, and returns their number.", DeletePattern)
        {
            Syntax = "pattern",
            Complexity = "O(N) where N is the number of keys that begin with the pattern's literal beginning.",
            Since = "0.1.0",
            Acl = AclCategories.Keyspace | AclCategories.Dangerous,
        },
    ];

    private static bool KeysOptionsFit(CommandArgs args, RespWriter reply)
    {
        var request = new KeysRequest();
        var fits = true;
        for (var i = 2; i < args.Count && fits; i++)
        {
            fits = request.Accept(args[i], i);
        }

        if (fits && request.IsComplete)
        {
            return true;
        }

        reply.Error(RespError.Syntax);
        return false;
    }

    private static async ValueTask KeysAsync(StreamContext cx)
    {
        var request = new KeysRequest();
        for (var i = 2; i < cx.Args.Length; i++)
        {
            request.Accept(cx.Args[i], i);
        }

        var pattern = cx.Args[1];
        var pivot = request.PivotAt > 0 ? cx.Args[request.PivotAt] : null;
        if (KeyPattern.IsLiteral(pattern))
        {
            AnswerOne(cx, pattern, pivot, request);
            return;
        }

        using var scan = new KeyScan(cx.Store, pattern, pivot, request, cx.Reply.Protocol);
        if (!scan.TryCountAtOnce())
        {
            while (scan.Count() == ScanStep.Pause)
            {
                await cx.PauseAsync();
            }
        }

        scan.BeginAnswer(cx.Reply);
        while (scan.Answer(cx.Reply) is var step and not ScanStep.End)
        {
            if (step == ScanStep.Full)
            {
                await cx.DrainAsync();
            }
            else
            {
                await cx.PauseAsync();
            }
        }
    }

    /// <summary>A pattern without a wildcard names one key.</summary>
    private static void AnswerOne(StreamContext cx, byte[] pattern, byte[]? pivot, KeysRequest request)
    {
        var buffer = new byte[pattern.Length];
        var key = buffer.AsSpan(0, KeyPattern.LiteralPrefix(pattern, buffer));
        var fromPivot = pivot is null ? 0 : key.SequenceCompareTo(pivot);
        var beyond = pivot is null || (request.Descending ? fromPivot < 0 : fromPivot > 0);
        if (request.Limit == 0 || !beyond || !cx.Store.TryGet(key, out var value, out var tag))
        {
            cx.Reply.ArrayHeader(0);
            return;
        }

        KeyScan.WriteHeader(cx.Reply, request.WithValues, 1);
        KeyScan.Write(cx.Reply, request.WithValues, key, value, tag);
    }

    private static void DeletePattern(ref WriteContext cx)
    {
        var pattern = cx.Args[1];
        if (KeyPattern.MatchesAll(pattern))
        {
            var all = cx.Store.Count;
            cx.Store.Clear();
            cx.Reply.Integer(all);
            return;
        }

        var range = KeyPattern.RangeOf(pattern, new byte[KeyPattern.RangeBytes(pattern)]);
        var batch = new KeyBatch(DeleteKeysMax, DeleteBytesMax);
        var deleted = 0L;
        bool more;
        do
        {
            batch.Clear();
            more = Gather(cx.Store, pattern, range, batch);
            for (var i = 0; i < batch.Count; i++)
            {
                deleted += cx.Store.Delete(batch[i]) ? 1 : 0;
            }

            range = new KeyRange { Start = batch.Last, StartExclusive = true, End = range.End, HasEnd = range.HasEnd };
        }
        while (more);

        cx.Reply.Integer(deleted);
    }

    /// <summary>Copies matching keys until the batch is full (then true) or the range ends.</summary>
    private static bool Gather(WriteView store, ReadOnlySpan<byte> pattern, KeyRange range, KeyBatch batch)
    {
        using var cursor = store.Scan(range);
        while (cursor.MoveNext())
        {
            if (KeyPattern.Matches(pattern, cursor.Key))
            {
                batch.Add(cursor.Key);
                if (batch.IsFull)
                {
                    return true;
                }
            }
        }

        return false;
    }
}
