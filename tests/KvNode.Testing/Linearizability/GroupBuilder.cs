namespace KvNode.Testing.Linearizability;

/// <summary>Gathers the steps of one group and gives keys and values numbers of the group's own.</summary>
internal sealed class GroupBuilder(List<HistoryCompiler.ValueUse>[] uses, string[] names)
{
    private readonly List<Step> _steps = [];
    private readonly Dictionary<int, int> _keys = [];
    private readonly List<int[]> _values = [];
    private readonly List<int> _valueCounts = [];
    private readonly List<bool[]> _oneWriter = [];
    private readonly Dictionary<int, Step> _lastOfClient = [];
    private readonly Dictionary<string, int> _twins = new(StringComparer.Ordinal);

    public void Add(Step step)
    {
        step.Requirements = [.. step.Requirements.Select(pair => (KeyOf(pair.Key), ValueOf(pair.Key, pair.Value)))];
        step.Effects = [.. step.Effects.Select(pair => (KeyOf(pair.Key), ValueOf(pair.Key, pair.Value)))];
        step.CountedKeys = [.. step.CountedKeys.Select(KeyOf)];
        _ = _lastOfClient.TryGetValue(step.Operation.Client, out var last);
        step.Predecessor = last;
        if (step.Operation.IsKnown)
        {
            _lastOfClient[step.Operation.Client] = step;
        }

        if (step.ReturnedAt == Operation.Never)
        {
            var effects = string.Join(';', step.Effects);
            if (!_twins.TryGetValue(effects, out var twin))
            {
                _twins.Add(effects, twin = _twins.Count);
            }

            step.Twin = twin;
        }

        _steps.Add(step);
    }

    public StepGroup Build() => new()
    {
        Steps = _steps,
        Keys = [.. _keys.OrderBy(static pair => pair.Value).Select(pair => names[pair.Key])],
        ValueCounts = [.. _valueCounts],
        HasOneWriter = [.. _oneWriter],
    };

    private int KeyOf(int key)
    {
        if (_keys.TryGetValue(key, out var number))
        {
            return number;
        }

        // Values nobody returned are all the one unseen value.
        var numbers = new int[uses[key].Count];
        var oneWriter = new List<bool> { false, false };
        var count = Step.FirstSeen;
        for (var value = Step.FirstSeen; value < numbers.Length; value++)
        {
            var use = uses[key][value];
            numbers[value] = use.Readers.Count == 0 ? Step.Unseen : count++;
            if (use.Readers.Count > 0)
            {
                oneWriter.Add(use.HasOneWriter);
            }
        }

        number = _keys.Count;
        _keys.Add(key, number);
        _values.Add(numbers);
        _valueCounts.Add(count);
        _oneWriter.Add([.. oneWriter]);
        return number;
    }

    private int ValueOf(int key, int value) => value is Step.Absent or Step.Present ? value : _values[_keys[key]][value];
}
