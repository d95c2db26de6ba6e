using KvNode.Testing.Linearizability;

namespace KvNode.Cluster.Tests;

/// <summary>What a made-up server does wrong, now and then.</summary>
internal enum PlantedBug
{
    None,

    /// <summary>A read is answered from the state before the last few writes.</summary>
    StaleRead,

    /// <summary>A write is answered and forgotten.</summary>
    LostUpdate,

    /// <summary>Half of an MSET takes effect at once, the rest a few operations later.</summary>
    TornMultiSet,

    /// <summary>A deleted key comes back.</summary>
    ResurrectedDelete,

    /// <summary>A write takes effect only after the next one of another client, which was called after it returned.</summary>
    Reordered,

    /// <summary>A DEL is executed a second time, a few operations later.</summary>
    DeletedTwice,

    /// <summary>A DEL or PDEL is executed twice and answered by the second.</summary>
    CountedTwice,

    /// <summary>A range misses a key that is there.</summary>
    TornRange,

    /// <summary>A client's pipelined reads are answered before its writes in front of them.</summary>
    OvertakingRead,
}

/// <summary>Shape of a made-up history.</summary>
internal sealed record HistoryShape
{
    public int Clients { get; init; } = 4;

    public int Operations { get; init; } = 100;

    /// <summary>Groups of keys; operations on several keys stay within one.</summary>
    public int Groups { get; init; } = 1;

    public int KeysPerGroup { get; init; } = 4;

    /// <summary>Several keys at once, ranges and pattern deletes in per cent.</summary>
    public int MultiKeyPercent { get; init; } = 40;

    public int UnknownPercent { get; init; } = 2;

    /// <summary>DBSIZE now and then.</summary>
    public bool HasSizes { get; init; }

    /// <summary>Values are drawn from so few instead of being unique.</summary>
    public int? FewValues { get; init; }

    /// <summary>Operations a client has in flight.</summary>
    public int Depth { get; init; } = 1;

    public PlantedBug Bug { get; init; }

    /// <summary>The bug strikes so often in a hundred operations that it fits.</summary>
    public int BugPercent { get; init; } = 20;
}

/// <summary>
/// Runs made-up clients against a made-up server that executes each operation at a random moment of its interval, with
/// or without a bug.
/// </summary>
internal sealed class RandomHistory
{
    private readonly HistoryShape _shape;
    private readonly Random _random;
    private readonly SortedDictionary<string, string> _map = new(StringComparer.Ordinal);
    private readonly List<SortedDictionary<string, string>> _past = [];
    private readonly List<(int Due, Action Do)> _later = [];
    private readonly List<Pending>[] _pending;
    private readonly List<Operation> _history = [];
    private long _now;
    private int _values;

    private RandomHistory(HistoryShape shape, Random random)
    {
        _shape = shape;
        _random = random;
        _pending = [.. Enumerable.Range(0, shape.Clients).Select(static _ => new List<Pending>())];
    }

    /// <summary>Whether the bug has struck at all.</summary>
    public int Strikes { get; private set; }

    public IReadOnlyList<Operation> Operations => _history;

    public static RandomHistory Make(HistoryShape shape, Random random)
    {
        var made = new RandomHistory(shape, random);
        made.Run();
        return made;
    }

    private void Run()
    {
        while (_history.Count < _shape.Operations || Array.Exists(_pending, static queue => queue.Count > 0))
        {
            _now++;
            var client = _random.Next(_shape.Clients);
            var queue = _pending[client];
            if (queue.Count < _shape.Depth && _history.Count < _shape.Operations && _random.Next(2) == 0)
            {
                var operation = Next(client);
                _history.Add(operation);
                queue.Add(new Pending(operation));
            }
            else if (queue.Find(static pending => pending.Result is null) is { } first)
            {
                Execute(queue, first);
            }
            else if (queue.Count > 0)
            {
                Answer(client, queue);
            }
        }
    }

    private void Execute(List<Pending> queue, Pending pending)
    {
        foreach (var (_, action) in _later.Where(item => item.Due <= _past.Count).ToArray())
        {
            action();
        }

        _ = _later.RemoveAll(item => item.Due <= _past.Count);
        _past.Add(new SortedDictionary<string, string>(_map, StringComparer.Ordinal));
        var strikes = _shape.Bug != PlantedBug.None && _random.Next(100) < _shape.BugPercent;
        pending.Result = strikes ? Misbehave(queue, pending.Operation) : null;
        pending.Result ??= BruteForce.Execute(pending.Operation, _map);
    }

    private void Answer(int client, List<Pending> queue)
    {
        var (operation, result) = (queue[0].Operation, queue[0].Result!);
        queue.RemoveAt(0);
        if (_random.Next(100) < _shape.UnknownPercent)
        {
            return;
        }

        BruteForce.Finish(operation, _now, result);
        _ = client;
    }

    /// <summary>The wrong result, or null where the bug has no say.</summary>
    private string? Misbehave(List<Pending> queue, Operation operation)
    {
        var isSet = operation.Kind is OperationKind.Set or OperationKind.MultiSet;
        var isDelete = operation.Kind is OperationKind.Delete or OperationKind.PatternDelete;
        switch (_shape.Bug)
        {
            case PlantedBug.StaleRead when !isSet && !isDelete && _past.Count > 8:
                return Strike(BruteForce.Execute(operation, _past[^8]));
            case PlantedBug.LostUpdate when isSet:
                return Strike("OK");
            case PlantedBug.TornMultiSet when operation.Kind == OperationKind.MultiSet && operation.Keys.Length > 1:
                _map[operation.Keys[0]] = operation.Values[0];
                Later(() => BruteForce.Execute(operation, _map));
                return Strike("OK");
            case PlantedBug.ResurrectedDelete when operation.Kind == OperationKind.Delete && _map.TryGetValue(operation.Keys[0], out var value):
                Later(() => _map.TryAdd(operation.Keys[0], value));
                return Strike(BruteForce.Execute(operation, _map));
            case PlantedBug.Reordered when isSet:
                Later(() => BruteForce.Execute(operation, _map));
                return Strike("OK");
            case PlantedBug.DeletedTwice when isDelete:
                Later(() => BruteForce.Execute(operation, _map));
                return Strike(BruteForce.Execute(operation, _map));
            case PlantedBug.CountedTwice when isDelete:
                _ = BruteForce.Execute(operation, _map);
                return Strike(BruteForce.Execute(operation, _map));
            case PlantedBug.TornRange when operation.Kind == OperationKind.Range && operation.Options == RangeOptions.All:
                var found = BruteForce.Execute(operation, _map).Split(',');
                return Strike(string.Join(',', found.Where((_, i) => i != found.Length / 2)));
            case PlantedBug.OvertakingRead when isSet && Next(queue, operation) is { Result: null } next:
                next.Result = Strike(BruteForce.Execute(next.Operation, _map));
                return null;
            default:
                return null;
        }
    }

    private static Pending? Next(List<Pending> queue, Operation operation)
    {
        var at = queue.FindIndex(pending => pending.Operation == operation) + 1;
        return at < queue.Count && queue[at].Operation.Kind == OperationKind.Get && operation.Keys.Contains(queue[at].Operation.Keys[0])
            ? queue[at]
            : null;
    }

    private string Strike(string result)
    {
        Strikes++;
        return result;
    }

    private void Later(Action action) => _later.Add((_past.Count + 8, action));

    private Operation Next(int client)
    {
        var group = $"g{_random.Next(_shape.Groups)}:";
        var keys = Enumerable.Range(0, _shape.KeysPerGroup).Select(number => $"{group}{number}").ToArray();
        if (_shape.HasSizes && _random.Next(8) == 0)
        {
            return Operation.Size(client, _now);
        }

        var key = keys[_random.Next(keys.Length)];
        if (_random.Next(100) >= _shape.MultiKeyPercent)
        {
            return _random.Next(10) switch
            {
                < 5 => Operation.Get(client, _now, key),
                < 9 => Operation.Set(client, _now, key, Value()),
                _ => Operation.Delete(client, _now, key),
            };
        }

        _random.Shuffle(keys);
        var some = keys[.._random.Next(1, keys.Length + 1)];
        return _random.Next(12) switch
        {
            < 4 => Operation.MultiSet(client, _now, some, [.. some.Select(_ => Value())]),
            < 7 => Operation.MultiGet(client, _now, some),
            < 8 => Operation.Delete(client, _now, some),
            < 9 => Operation.PatternDelete(client, _now, group),
            _ => Operation.Range(client, _now, group, Options(key)),
        };
    }

    private RangeOptions Options(string pivot) => _random.Next(3) == 0
        ? RangeOptions.All
        : new RangeOptions(
            _random.Next(3) == 0 ? pivot : null, _random.Next(3) == 0 ? _random.Next(1, 4) : null, _random.Next(2) == 0, _random.Next(2) == 0);

    private string Value() => _shape.FewValues is { } few ? $"v{_random.Next(few)}" : $"v{_values++}";

    private sealed record Pending(Operation Operation)
    {
        public string? Result { get; set; }
    }
}
