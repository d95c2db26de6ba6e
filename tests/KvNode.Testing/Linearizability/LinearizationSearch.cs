namespace KvNode.Testing.Linearizability;

/// <summary>
/// Looks for an order of one group's steps that keeps real time and explains every result: depth first, as Wing and
/// Gong, with Lowe's memory of the configurations already seen.
/// </summary>
/// <remarks>
/// Three things keep it short, and none changes the answer:
/// <list type="bullet">
/// <item>A step that only reads and is right now is taken at once and for good: it is in nobody's way, so if any order
/// goes on from here, one that has it here does too.</item>
/// <item>A value that one step wrote and that still has to be returned must not be replaced: nobody brings it back.</item>
/// <item>Steps of unknown outcome are tried last, and of those that do the same only the first.</item>
/// </list>
/// A step may be taken next when no other step that must be taken returned before it was called.
/// </remarks>
internal sealed class LinearizationSearch
{
    private const int None = -1;

    private readonly StepGroup _group;
    private readonly CheckLimits _limits;
    private readonly ConfigurationSet _seen = new();

    // Steps that must be taken, in the order of their calls, then those that need not, likewise.
    private readonly Step[] _steps;
    private readonly int _known;
    private readonly int[] _predecessors;
    private readonly bool[] _isTaken;
    private readonly ulong[] _stepHashes;

    // Calls and returns of known steps by time, a call before a return of the same time; linked, so that a step taken
    // can be lifted out and put back. Node 0 is the head, step i's call is node 1 + 2 i, its return the node after.
    private readonly int[] _next;
    private readonly int[] _previous;

    // The state: each key's value; and how often each value must still be returned.
    private readonly int[] _state;
    private readonly int[][] _pendingReads;
    private readonly List<(int Key, int Value)> _undo = [];
    private ulong _stateHash;
    private ulong _takenHash;

    private readonly List<Frame> _path = [];
    private int _left;
    private long _stepsDone;

    public LinearizationSearch(StepGroup group, CheckLimits limits)
    {
        _group = group;
        _limits = limits;
        var known = group.Steps.Where(static step => step.ReturnedAt != Operation.Never).OrderBy(static step => step.CalledAt);
        var unknown = group.Steps.Where(static step => step.ReturnedAt == Operation.Never).OrderBy(static step => step.CalledAt);
        _steps = [.. known, .. unknown];
        _known = _steps.Count(static step => step.ReturnedAt != Operation.Never);
        _left = _known;
        var numbers = new Dictionary<Step, int>(ReferenceEqualityComparer.Instance);
        _stepHashes = new ulong[_steps.Length];
        for (var i = 0; i < _steps.Length; i++)
        {
            numbers.Add(_steps[i], i);
            _stepHashes[i] = Mix((ulong)i + 1);
        }

        _predecessors = [.. _steps.Select(step => step.Predecessor is { } before ? numbers[before] : None)];
        _isTaken = new bool[_steps.Length];
        _state = new int[group.Keys.Length];
        _pendingReads = [.. group.ValueCounts.Select(static count => new int[count])];
        _next = new int[1 + (2 * _known)];
        _previous = new int[_next.Length];
        LinkNodes();
        CountReads(+1, _steps.AsSpan(0, _known));
    }

    public long Configurations => _seen.Count;

    public long StepsDone => _stepsDone;

    public Verdict Run()
    {
        var cursor = 0;
        TakeFreeReads();
        while (_left > 0)
        {
            if (_seen.Count > _limits.ConfigurationsMax || _stepsDone > _limits.StepsMax)
            {
                return Verdict.Undecided;
            }

            if (TakeWrite(cursor))
            {
                TakeFreeReads();
                cursor = 0;
            }
            else if (!Retreat(out cursor))
            {
                return Verdict.Violation;
            }
        }

        return Verdict.Linearizable;
    }

    /// <summary>Takes every reading step that is possible and right, until there is none.</summary>
    private void TakeFreeReads()
    {
        bool again;
        do
        {
            again = false;
            for (var node = _next[0]; IsCall(node); node = _next[node])
            {
                var step = StepOf(node);
                _stepsDone++;
                if (_steps[step].Effects.Length == 0 && IsUnlocked(step) && Holds(_steps[step]))
                {
                    _path.Add(new Frame(step, _undo.Count, IsFree: true));
                    Take(step);
                    again = true;
                }
            }
        }
        while (again);
    }

    /// <summary>Takes the first writing step at or behind the cursor that leads somewhere new.</summary>
    /// <param name="cursor">A node (0: from the start), or the number of nodes plus that of a step of unknown outcome.</param>
    private bool TakeWrite(int cursor)
    {
        if (cursor < _next.Length)
        {
            for (var node = cursor == 0 ? _next[0] : cursor; IsCall(node); node = _next[node])
            {
                var step = StepOf(node);
                if (_steps[step].Effects.Length > 0 && IsUnlocked(step) && TryWrite(step))
                {
                    return true;
                }
            }

            cursor = _next.Length;
        }

        var deadline = FirstReturn();
        for (var step = _known + cursor - _next.Length; step < _steps.Length && _steps[step].CalledAt <= deadline; step++)
        {
            _stepsDone++;
            if (!_isTaken[step] && IsUnlocked(step) && !HasUntakenTwin(step) && TryWrite(step))
            {
                return true;
            }
        }

        return false;
    }

    private bool TryWrite(int number)
    {
        _stepsDone++;
        var step = _steps[number];
        if (!Holds(step))
        {
            return false;
        }

        var undo = _undo.Count;
        var isDeadEnd = false;
        foreach (var (key, value) in step.Effects)
        {
            isDeadEnd |= _state[key] != value && _pendingReads[key][_state[key]] > 0;
            Put(key, value);
        }

        // What need not happen and changes nothing is not worth a branch.
        isDeadEnd |= number >= _known && _undo.Count == undo;
        if (isDeadEnd || !_seen.Add(_takenHash ^ _stepHashes[number], _stateHash))
        {
            Undo(undo);
            return false;
        }

        _path.Add(new Frame(number, undo, IsFree: false));
        Take(number);
        return true;
    }

    /// <summary>Goes back to the last choice.</summary>
    /// <param name="cursor">Behind the step chosen there.</param>
    private bool Retreat(out int cursor)
    {
        while (_path.Count > 0)
        {
            var frame = _path[^1];
            _path.RemoveAt(_path.Count - 1);
            PutBack(frame.Step);
            Undo(frame.UndoFrom);
            if (!frame.IsFree)
            {
                cursor = frame.Step < _known ? _next[CallOf(frame.Step)] : _next.Length + frame.Step - _known + 1;
                return true;
            }
        }

        cursor = 0;
        return false;
    }

    /// <summary>Whether the step's results are right in this state.</summary>
    private bool Holds(Step step)
    {
        foreach (var (key, value) in step.Requirements)
        {
            if (value == Step.Present ? _state[key] == Step.Absent : _state[key] != value)
            {
                return false;
            }
        }

        if (step.Count < 0)
        {
            return true;
        }

        var count = 0;
        foreach (var key in step.CountedKeys)
        {
            count += _state[key] == Step.Absent ? 0 : 1;
        }

        return count == step.Count;
    }

    private bool IsUnlocked(int step) => _predecessors[step] is var before && (before == None || _isTaken[before]);

    private bool HasUntakenTwin(int step)
    {
        for (var other = _known; other < step; other++)
        {
            if (_steps[other].Twin == _steps[step].Twin && !_isTaken[other] && IsUnlocked(other))
            {
                return true;
            }
        }

        return false;
    }

    private void Take(int number)
    {
        _isTaken[number] = true;
        _takenHash ^= _stepHashes[number];
        if (number >= _known)
        {
            return;
        }

        CountReads(-1, new ReadOnlySpan<Step>(in _steps[number]));
        _left--;
        Lift(CallOf(number));
        Lift(CallOf(number) + 1);
    }

    private void PutBack(int number)
    {
        _isTaken[number] = false;
        _takenHash ^= _stepHashes[number];
        if (number >= _known)
        {
            return;
        }

        CountReads(+1, new ReadOnlySpan<Step>(in _steps[number]));
        _left++;
        Unlift(CallOf(number) + 1);
        Unlift(CallOf(number));
    }

    private void CountReads(int by, ReadOnlySpan<Step> steps)
    {
        foreach (var step in steps)
        {
            foreach (var (key, value) in step.Requirements)
            {
                if (value >= Step.FirstSeen && _group.HasOneWriter[key][value])
                {
                    _pendingReads[key][value] += by;
                }
            }
        }
    }

    private void Put(int key, int value)
    {
        if (_state[key] != value)
        {
            _undo.Add((key, _state[key]));
            SetState(key, value);
        }
    }

    private void Undo(int from)
    {
        for (var i = _undo.Count - 1; i >= from; i--)
        {
            SetState(_undo[i].Key, _undo[i].Value);
        }

        _undo.RemoveRange(from, _undo.Count - from);
    }

    private void SetState(int key, int value)
    {
        _stateHash ^= StateHash(key, _state[key]) ^ StateHash(key, value);
        _state[key] = value;
    }

    private static ulong StateHash(int key, int value) =>
        value == Step.Absent ? 0 : Mix(((ulong)(uint)key << 32) | (uint)value | (1UL << 63));

    /// <summary>The finalizer of splitmix64.</summary>
    private static ulong Mix(ulong x)
    {
        x += 0x9e3779b97f4a7c15;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return x ^ (x >> 31);
    }

    private static int CallOf(int step) => 1 + (2 * step);

    private static int StepOf(int node) => (node - 1) / 2;

    private static bool IsCall(int node) => node > 0 && (node & 1) == 1;

    private long FirstReturn()
    {
        var node = _next[0];
        while (IsCall(node))
        {
            node = _next[node];
        }

        return _steps[StepOf(node)].ReturnedAt;
    }

    private void LinkNodes()
    {
        var nodes = new int[2 * _known];
        var times = new (long Time, int IsReturn)[nodes.Length];
        for (var i = 0; i < nodes.Length; i++)
        {
            nodes[i] = i + 1;
            var step = _steps[StepOf(i + 1)];
            times[i] = IsCall(i + 1) ? (step.CalledAt, 0) : (step.ReturnedAt, 1);
        }

        Array.Sort(times, nodes);
        var last = 0;
        foreach (var node in nodes)
        {
            _next[last] = node;
            _previous[node] = last;
            last = node;
        }

        _next[last] = 0;
    }

    private void Lift(int node)
    {
        _next[_previous[node]] = _next[node];
        if (_next[node] != 0)
        {
            _previous[_next[node]] = _previous[node];
        }
    }

    private void Unlift(int node)
    {
        _next[_previous[node]] = node;
        if (_next[node] != 0)
        {
            _previous[_next[node]] = node;
        }
    }

    /// <summary>A step taken.</summary>
    /// <param name="UndoFrom">What it changed is in the undo list from here.</param>
    /// <param name="IsFree">A read: taking it was no choice.</param>
    private readonly record struct Frame(int Step, int UndoFrom, bool IsFree);
}
