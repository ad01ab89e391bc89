"""Many JSON Schemas, made from the ideas of what people and programs write.

Each is `(name, schema)`. The names say the keyword first, so that a failure
tells which one broke.
"""

import itertools

from tests import schema_families_logic as logic_
from tests import schema_families_objects as objects_
from tests import schema_families_values as values_


def list_schemas():
    """List all schemas, in an order that never changes."""
    families = (
        values_.types(),
        values_.strings(),
        values_.patterns(),
        values_.numbers(),
        values_.values(),
        values_.arrays(),
        values_.arrays_2(),
        objects_.objects(),
        objects_.objects_2(),
        objects_.objects_3(),
        objects_.objects_4(),
        objects_.object_counts(),
        logic_.logic(),
        logic_.logic_2(),
        logic_.logic_3(),
        logic_.conditions(),
        logic_.conditions_2(),
        logic_.references(),
        logic_.references_2(),
        logic_.references_3(),
        logic_.references_4(),
        objects_.drafts(),
        objects_.tools(),
        objects_.records(),
        objects_.records_2(),
        objects_.records_3(),
    )
    schemas = list(itertools.chain.from_iterable(families))
    names = [name for name, _ in schemas]
    assert len(names) == len(set(names)), "a name comes twice"
    return schemas
