namespace KvNode.Testing.Linearizability;

/// <summary>Turns a history into groups of <see cref="Step"/>s that can be searched one by one.</summary>
/// <remarks>
/// Everything here keeps the answer: a history has an order that explains it if and only if each of the groups has one.
/// <list type="bullet">
/// <item>Keys that no operation ties together are independent (Herlihy and Wing: linearizability is local).</item>
/// <item>A read without a result says nothing and goes.</item>
/// <item>A value that one operation wrote and another returned ties their intervals together.</item>
/// <item>Values nobody returned cannot be told apart and become one.</item>
/// <item>A write of unknown outcome that nobody can have noticed goes: had it happened, it could as well not have.</item>
/// </list>
/// </remarks>
internal sealed class HistoryCompiler
{
    private readonly List<Operation> _operations = [];
    private readonly string[] _keys;
    private readonly Dictionary<string, int> _keyNumbers = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int>[] _values;
    private readonly List<ValueUse>[] _uses;
    private readonly bool[] _isCounted;
    private readonly int[] _parents;
    private readonly List<Step> _steps = [];

    /// <summary>The one key looked at; null is all.</summary>
    private readonly string? _only;

    private HistoryCompiler(IEnumerable<Operation> operations, string? only)
    {
        _only = only;
        var keys = new HashSet<string>(StringComparer.Ordinal);
        foreach (var operation in operations)
        {
            if (!operation.IsKnown && IsRead(operation.Kind))
            {
                continue;
            }

            _operations.Add(operation);
            if (operation.Kind is not (OperationKind.PatternDelete or OperationKind.Range))
            {
                keys.UnionWith(operation.Keys);
            }
        }

        _keys = [.. keys];
        Array.Sort(_keys, StringComparer.Ordinal);
        for (var i = 0; i < _keys.Length; i++)
        {
            _keyNumbers.Add(_keys[i], i);
        }

        _values = new Dictionary<string, int>[_keys.Length];
        _uses = new List<ValueUse>[_keys.Length];
        _isCounted = new bool[_keys.Length];
        _parents = new int[_keys.Length];
        for (var i = 0; i < _keys.Length; i++)
        {
            _values[i] = new Dictionary<string, int>(StringComparer.Ordinal);
            _uses[i] = [new ValueUse(), new ValueUse()];
            _parents[i] = i;
        }
    }

    /// <param name="only">
    /// Of every operation only the part that concerns this key. What is impossible for one key alone is impossible, and
    /// found much faster; the reverse does not hold.
    /// </param>
    /// <exception cref="ImpossibleResultException">A result is wrong whatever the order.</exception>
    public static List<StepGroup> Compile(IEnumerable<Operation> operations, string? only = null)
    {
        var compiler = new HistoryCompiler(operations, only);
        compiler.NumberValues();
        foreach (var operation in compiler._operations)
        {
            compiler.AddStep(operation);
        }

        compiler.TieIntervals();
        return compiler.Groups();
    }

    private static bool IsRead(OperationKind kind) =>
        kind is OperationKind.Get or OperationKind.MultiGet or OperationKind.Range or OperationKind.Size;

    /// <summary>A value that is written anywhere has a number, if only for now.</summary>
    private void NumberValues()
    {
        foreach (var operation in _operations)
        {
            for (var i = 0; i < operation.Values.Length; i++)
            {
                var key = _keyNumbers[operation.Keys[i]];
                if (_values[key].TryAdd(operation.Values[i], _uses[key].Count))
                {
                    _uses[key].Add(new ValueUse());
                }
            }
        }
    }

    private void AddStep(Operation operation)
    {
        var step = new Step { Operation = operation, CalledAt = operation.CalledAt, ReturnedAt = operation.ReturnedAt };
        switch (operation.Kind)
        {
            case OperationKind.Set or OperationKind.MultiSet:
                step.Effects = [.. operation.Keys.Select((key, i) => EffectOf(_keyNumbers[key], operation.Values[i]))];
                break;
            case OperationKind.Get or OperationKind.MultiGet:
                step.Requirements = [.. operation.Keys.Select((key, i) => (_keyNumbers[key], Returned(step, _keyNumbers[key], operation.Found[i])))];
                break;
            case OperationKind.Delete:
                AddDelete(step, [.. operation.Keys.Select(key => _keyNumbers[key]).Distinct()]);
                break;
            case OperationKind.PatternDelete:
                AddDelete(step, KeysUnder(operation.Keys[0]));
                break;
            case OperationKind.Range:
                step.Requirements = RangeRequirements(step);
                break;
            default:
                Count(step, [.. Enumerable.Range(0, _keys.Length)]);
                break;
        }

        if (_only is not null)
        {
            Narrow(step, _keyNumbers.GetValueOrDefault(_only, -1));
        }

        Note(step);
    }

    private static void Narrow(Step step, int only)
    {
        step.Requirements = [.. step.Requirements.Where(pair => pair.Key == only)];
        step.Effects = [.. step.Effects.Where(pair => pair.Key == only)];
        if (Array.Exists(step.CountedKeys, key => key != only))
        {
            step.CountedKeys = [];
            step.Count = -1;
        }
    }

    private void AddDelete(Step step, int[] keys)
    {
        if (step.Operation is { IsKnown: true, HasCount: true, Count: 0 })
        {
            // It found nothing and did nothing: it is a read.
            step.Requirements = [.. keys.Select(static key => (key, Step.Absent))];
            return;
        }

        step.Effects = [.. keys.Select(static key => (key, Step.Absent))];
        if (step.Operation is { IsKnown: true, HasCount: true })
        {
            Count(step, keys);
        }
    }

    private static void Count(Step step, int[] keys)
    {
        step.CountedKeys = keys;
        step.Count = step.Operation.Count is var count && count >= 0 && count <= keys.Length
            ? count
            : throw new ImpossibleResultException($"there were never more than {keys.Length} keys to count", step.Operation);
    }

    private (int Key, int Value) EffectOf(int key, string value) => (key, _values[key][value]);

    /// <summary>The number of a value somebody returned.</summary>
    private int Returned(Step step, int key, string? value)
    {
        if (value is null)
        {
            return Step.Absent;
        }

        return _values[key].TryGetValue(value, out var number)
            ? number
            : throw new ImpossibleResultException($"nobody ever wrote the value '{value}' to {_keys[key]}", step.Operation);
    }

    /// <summary>Keys of the history that begin with the prefix, in order.</summary>
    private int[] KeysUnder(string prefix)
    {
        var first = Array.BinarySearch(_keys, prefix, StringComparer.Ordinal);
        first = first < 0 ? ~first : first;
        var end = first;
        while (end < _keys.Length && _keys[end].StartsWith(prefix, StringComparison.Ordinal))
        {
            end++;
        }

        return [.. Enumerable.Range(first, end - first)];
    }

    private (int Key, int Value)[] RangeRequirements(Step step)
    {
        var operation = step.Operation;
        var options = operation.Options;
        var keys = KeysUnder(operation.Keys[0]);
        if (options.Descending)
        {
            Array.Reverse(keys);
        }

        var requirements = new List<(int, int)>();
        var width = options.WithValues ? 2 : 1;
        var at = 0;
        foreach (var key in keys.Where(key => IsBehindPivot(options, _keys[key])))
        {
            if (at == operation.Found.Length && at / width == options.Limit)
            {
                break; // What lies behind the limit nobody looked at.
            }

            if (at < operation.Found.Length && operation.Found[at] == _keys[key])
            {
                requirements.Add((key, options.WithValues ? Returned(step, key, operation.Found[at + 1]) : Step.Present));
                at += width;
            }
            else
            {
                requirements.Add((key, Step.Absent));
            }
        }

        return at == operation.Found.Length && !(at / width > options.Limit)
            ? [.. requirements]
            : throw new ImpossibleResultException(
                at / width > options.Limit
                    ? "it returned more than its limit"
                    : $"'{operation.Found[at]}' has no place there: never written, outside the range, twice, or out of order",
                operation);
    }

    private static bool IsBehindPivot(RangeOptions options, string key) =>
        options.Pivot is not { } pivot ||
        (options.Descending ? string.CompareOrdinal(key, pivot) < 0 : string.CompareOrdinal(key, pivot) > 0);

    /// <summary>Adds the step, ties its keys together and notes who writes and returns which value.</summary>
    private void Note(Step step)
    {
        _steps.Add(step);
        var first = -1;
        foreach (var (key, value) in step.Requirements)
        {
            Tie(ref first, key);
            if (value == Step.Present)
            {
                _isCounted[key] = true;
            }
            else
            {
                _uses[key][value].Readers.Add(step);
            }
        }

        foreach (var (key, value) in step.Effects)
        {
            Tie(ref first, key);
            _uses[key][value].Writers.Add(step);
        }

        foreach (var key in step.CountedKeys)
        {
            Tie(ref first, key);
            _isCounted[key] = true;
        }
    }

    private void Tie(ref int first, int key)
    {
        if (first < 0)
        {
            first = Root(key);
        }
        else if (Root(key) is var root && root != first)
        {
            _parents[root] = first;
        }
    }

    private int Root(int key)
    {
        while (_parents[key] != key)
        {
            _parents[key] = _parents[_parents[key]];
            key = _parents[key];
        }

        return key;
    }

    private void TieIntervals()
    {
        for (var key = 0; key < _keys.Length; key++)
        {
            for (var value = Step.FirstSeen; value < _uses[key].Count; value++)
            {
                var use = _uses[key][value];
                if (use.Readers.Count > 0 && use.HasOneWriter)
                {
                    TieIntervals(key, use);
                }
            }
        }
    }

    private void TieIntervals(int key, ValueUse use)
    {
        var writer = use.Writers[0];
        foreach (var reader in use.Readers)
        {
            if (reader.ReturnedAt < writer.CalledAt)
            {
                throw new ImpossibleResultException(
                    $"the value of {_keys[key]} was returned before it was written", reader.Operation, writer.Operation);
            }

            reader.CalledAt = Math.Max(reader.CalledAt, writer.CalledAt);
            writer.ReturnedAt = Math.Min(writer.ReturnedAt, reader.ReturnedAt);
        }
    }

    private List<StepGroup> Groups()
    {
        var groups = new Dictionary<int, GroupBuilder>();
        foreach (var step in _steps)
        {
            var key = step.Requirements.Length > 0 ? step.Requirements[0].Key
                : step.Effects.Length > 0 ? step.Effects[0].Key
                : step.CountedKeys.Length > 0 ? step.CountedKeys[0] : -1;
            if (key < 0 || IsUnnoticeable(step))
            {
                continue; // A range without a key that was ever there, or a write like none.
            }

            var root = Root(key);
            if (!groups.TryGetValue(root, out var group))
            {
                groups.Add(root, group = new GroupBuilder(_uses, _keys));
            }

            group.Add(step);
        }

        return [.. groups.Values.Select(static group => group.Build())];
    }

    private bool IsUnnoticeable(Step step) =>
        step.ReturnedAt == Operation.Never && step.Effects.All(effect =>
            effect.Value != Step.Absent && _uses[effect.Key][effect.Value].Readers.Count == 0 && !_isCounted[effect.Key]);

    /// <summary>Who wrote and who returned one value of one key.</summary>
    internal sealed class ValueUse
    {
        public List<Step> Writers { get; } = [];

        public List<Step> Readers { get; } = [];

        // A repeated key within one MSET counts as two.
        public bool HasOneWriter => Writers.Count == 1;
    }
}
